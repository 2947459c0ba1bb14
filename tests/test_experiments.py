"""Every experiment runs to its end in its quick form."""

from experiments import speed


def test_speed_quick(capsys):
    result = speed.main(speed.Config(quick=True))
    assert result["sampling"]["compiled_again_for_new_guidance_seed_schedule"] == 0
    typical = result["typicality"]
    assert typical["temporary_MiB_at_100_draws"] <= 1.05 * typical["temporary_MiB_at_10_draws"] + 0.01
    assert "training_step" in capsys.readouterr().out
