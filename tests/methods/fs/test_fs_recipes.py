import pytest

from spikeloom.errors import ConfigError
from spikeloom.methods.catalog import dump, load_recipe, parse, recipe_names
from spikeloom.methods.fs.config import FsNetwork

# recipe: data set, batch, evaluation batch, lr, epochs, T, empty steps, dt in ms, hidden
PUBLISHED = {
    "fs/shd-adlif": ("shd", 128, 256, 1e-3, 80, 100, None, 10.0, (256, 256)),
    "fs/shd-culif": ("shd", 128, 256, 1e-3, 80, 120, 20, 10.0, (256,)),
    "fs/ntidigits-adlif": ("ntidigits", 128, 512, 1e-3, 200, 250, None, 5.0, (256, 256)),
    "fs/ntidigits-culif": ("ntidigits", 128, 512, 1e-3, 200, 250, None, 5.0, (256, 256)),
    "fs/dvsgesture-kernel": ("dvs128-gesture-10", 16, 32, 1e-4, 70, 160, 40, 10.0, (256, 256)),
    "fs/dvsgesture-autograd": ("dvs128-gesture-10", 16, 32, 1e-4, 70, 160, 40, 10.0, (256, 256)),
    "fs/dvsplane-kernel": ("dvsplane", 16, 64, 3e-4, 50, 135, None, 2.0, (256, 256)),
    "fs/dvsplane-autograd": ("dvsplane", 16, 64, 3e-4, 50, 135, None, 2.0, (256, 256)),
}
# recipe: constants of hidden and output neurons; alpha, D, A; rate alpha
CONSTANTS = {
    "fs/shd-adlif": ((5, 5, 0.5), (60, 60, 10), (0.2, 16, 200), 20),
    "fs/shd-culif": ((5, 5, 5), (60, 60, 10), (0.2, 16, 200), 20),
    "fs/ntidigits-adlif": ((5, 5, 0.5), (40, 40, 10), (0.1, 16, 500), 20),
    "fs/ntidigits-culif": ((5, 5, 1), (40, 40, 2), (0.1, 16, 500), 20),
    "fs/dvsgesture-kernel": ((5, 5, 0.5), (60, 60, 1), (0.1, 4, 300), 10),
    "fs/dvsgesture-autograd": ((5, 5, 0.5), (60, 60, 1), (0.1, 4, 300), 10),
    "fs/dvsplane-kernel": ((5, 5, 0.5), (40, 40, 2), (0.1, 8, 500), 15),
    "fs/dvsplane-autograd": ((5, 5, 0.5), (40, 40, 2), (0.1, 8, 500), 15),
}
OURS = [
    *("fs/digits-events", "fs/fsdd", "fs/fsdd-culif", "fs/fsdd-delays"),
    *("fs/mnist", "fs/mnist-conv"),
]


def test_all_recipes_are_listed_and_their_base_is_not():
    listed = [name for name in recipe_names() if name.startswith("fs/")]
    assert listed == sorted([*PUBLISHED, *OURS])


@pytest.mark.parametrize("name", [*PUBLISHED, *OURS])
def test_recipe_survives_being_written(name):
    recipe = load_recipe(name)
    assert parse(dump(recipe)) == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_those_that_were_run(name):
    recipe = load_recipe(name)
    network, data = recipe.network, recipe.data
    assert isinstance(network, FsNetwork)
    frames = data.frames
    found = (data.name, data.batch_size, data.eval_batch_size, recipe.optimizer.lr)
    found += (recipe.training.epochs, network.T, frames.empty, frames.dt, network.hidden)
    assert found == PUBLISHED[name]
    coding = (network.fs_alpha, network.window, network.amplitude)
    constants = (network.hidden_neuron, network.output_neuron, coding, network.fr_alpha)
    assert constants == CONSTANTS[name]
    assert network.form == ("autograd" if "culif" in name or "autograd" in name else "kernel")
    assert (network.silent_weight, network.silent_rate) == (0.01, 0.02)
    optimizer, training = recipe.optimizer, recipe.training
    assert optimizer.amsgrad and optimizer.weight_decay == 1e-4
    assert training.clip_norm == 10 and training.carry_gradients
    assert recipe.schedule.name == "constant" and not data.drop_last
    assert frames.by == "window" and frames.downsample == (4 if "dvs" in name else None)


def test_zero_is_a_value_like_any_other():
    recipe = load_recipe("fs/dvsgesture-kernel", ["empty=0", "T=120", "weight_decay=0"])
    assert recipe.data.frames.empty == 0 and recipe.optimizer.weight_decay == 0


def test_carried_gradients_refuse_scaled_ones():
    with pytest.raises(ConfigError, match="carry_gradients"):
        load_recipe("fs/shd-adlif", ["precision=float16"])
