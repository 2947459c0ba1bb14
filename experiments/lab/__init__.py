"""Tools that the experiments share; the figures themselves are one file each, in the folder above.

runner            defines an experiment, its table `paper | exact | ours` and its folder
linear_denoisers  what a sampler does to Gaussian data, exactly
drawn_images      images of a shipped model, drawn once and scored by the shipped classifier
small_trainings   one family of small trainings, trained once and read from the cache
adapter_trainings what starts from the shipped network that reads captions: kept in the cache, and resumed
learned_control   ControlNets of it
learned_images    the same network with a picture as further input
learned_words     the same network with a subject: a new word, LoRA, DreamBooth
training_scores   the measures of the small trainings
latent_trainings  the same network on pixels and on codes, at an equal budget of processor minutes
ship_weights      from a run to weights that ship, with their card
gallery           the page experiments/results/README.md
readme_pages      the generated parts of README.md and docs/
speed             benchmarks against PyTorch
time_to_loss      seconds of training to a given test loss, against PyTorch
chip_cost         what a training would cost on many chips: a calculation
"""
