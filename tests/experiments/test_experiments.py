"""Every experiment runs to its end in its quick form."""

import pytest
from tiny import random_params

from ddpm.datasets.wardrobe.captions import VOCABULARY
from ddpm.networks.text_config import TextConfig
from ddpm.schedule import make_schedule
from ddpm.zoo import model
from experiments.lab import runner, speed


@pytest.mark.slow
def test_speed_quick(capsys):
    """The parts that have no row of their own in test_speed.py, on a tiny network."""
    result = speed.main(speed.Config(quick=True, parts=("training_step", "sampling", "typicality")))
    assert result["sampling"]["compiled_again_for_new_guidance_seed_schedule"] == 0
    typical = result["typicality"]
    assert typical["temporary_MiB_at_100_draws"] <= 1.05 * typical["temporary_MiB_at_10_draws"] + 0.01
    assert "training_step" in capsys.readouterr().out


EXACT = [
    "acgan_bias", "autoguidance", "cfg_tilted", "clip_guidance", "clip_pmi", "composition", "control",
    "ddim_table1", "ddim_table2", "ddpm_facts", "edits", "edm_table1", "ema_memory", "flow_paths", "gan_objectives",
    "latent_size", "mining", "palette", "personal", "progressive_coding", "repaint_schedule", "schedules",
    "sds_fixed_points", "sds_voxels", "solver_orders", "style_parts_3d", "text_guidance", "transformer_cost",
    "try_on", "typicality_exact", "vae_collapse", "variance_price", "word_binding",
    "absorbing_steps", "augmentation", "self_guidance", "translation_exact",
    "latent_scale",
    "fmap_sds",
    "drawn_shapes",
    "sds_shapes",
]  # fmt: skip


TRAINED = (
    *("context_pooled", "control_network", "edits_network", "fine_detail", "palette_network", "personal_network"),
    "try_on_network",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network that reads captions and compiles in seconds, to stand in the place of the shipped one."""
    sizes = {"patch": 4, "channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "groups": 4}
    config = TextConfig(28, 3, **sizes, words=VOCABULARY, text_width=8, text_layers=1, text_heads=2)
    card = {"schedule": {"name": "cosine", "T": 1000}, "predict": "v"}
    path = tmp_path_factory.mktemp("small") / "wardrobe"
    chain = make_schedule("cosine", 1000)
    model.save(path, model.Model("small", config, random_params(config), chain, tuple("abcdef"), card), {})
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXACT, *TRAINED])
def test_exact_figures(name, tmp_path, small, monkeypatch):
    """Each row that is checked agrees with its closed form, in the quick form; the picture is drawn."""
    monkeypatch.setenv("DDPM_CACHE_DIR", str(tmp_path / "cache"))
    changes = [f"model={small}"] if name in TRAINED else []
    folder = runner.make(name, changes, quick=True, out=tmp_path)
    assert (folder / "figure.png").stat().st_size > 5000
