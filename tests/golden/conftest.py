"""Finds the arrays that the published implementations computed, and loads them.

A test that takes the fixture `plif_neuron` runs once for each file that holds such an experiment,
anywhere below `--golden-root`. Kinds are told apart by the start of the file's name and by the
arrays inside; every setting is read from the arrays.
"""

from collections.abc import Iterator
from fnmatch import filter as matching
from pathlib import Path

import numpy as np
import pytest

from spikeloom.synapses import sparse

Arrays = dict[str, np.ndarray]

# Fixture -> (pattern of file names, patterns of arrays that such a file holds).
KINDS = {
    "plif_neuron": ("neuron_*.npz", {"x", "g_s", "g_v", "init_tau", "is_plif"}),
    "plif_surrogate": ("surrogate_*.npz", {"x", "up", "y", "alpha", "primitive_f64"}),
    "plif_net": ("net_*.npz", {"x", "label", "cfg.init_tau", "counter_f64", "param_names"}),
    "plif_split": ("split_*.npz", {"labels", "val_ratio", "train_idx", "val_idx"}),
    "plif_lr": ("lr_*.npz", {"base_lr", "T_max", "lr"}),
    "plif_frames": ("frames_*.npz", {"t", "x", "y", "p", "height", "width", "T"}),
    "plif_reader": ("reader_*.npz", {"raw", "t", "x", "y", "p"}),
    "dsr_frames": ("*frames*.npz", {"aedat_bytes", "ev_t", "ev_x", "ev_y", "ev_p"}),
    "dsr_neuron": ("*neuron_*if.npz", {"c*_x", "c*_delta_t", "c*_margin", "c*_grad_Vth_f64"}),
    "dsr_imagenet": ("*neuron_imagenet*.npz", {"c*_x", "c*_delta_t", "c*_margin"}),
    "dsr_edges": ("*edge*.npz", {"*_Vth_bound", "*_Vth_after", "*_rep_grad", "*_grad_Vth"}),
    "dsr_block": ("*block*.npz", {"*_is_lif", "*_init.bn1.weight", "*_spikes.relu1_f64"}),
    "dsr_pipeline": ("*pipeline*.npz", {"w.conv1.weight", "cal_x", "vth.*", "sgd_Vth"}),
    "dsr_nets": ("*nets*.npz", {"*_state_names", "*_x_index", "*_Vth_grad_f64"}),
    "dsr_schedule": ("*schedule*.npz", {"cifar_lr", "cifar_setting", "imagenet_setting"}),
    "glif_frames": ("*frames*.npz", {"t", "x", "y", "p", "frames", "frames48"}),
    "glif_neuron": ("*neuron*.npz", {"*.spikes", "*.conduct", "*.f64.u", "*.margin"}),
    "glif_surrogate": ("*surrogate*.npz", {"f64.v", "f64.spike", "f64.gate_p", "f64.gate_bin"}),
    "glif_init": ("*init*.npz", {"gate", "cw_raw", "lw_raw"}),
    "glif_tdbn": ("*tdbn*.npz", {"*.x0", "*.f64.train_y", "*.f64.eval_y"}),
    "glif_blocks": ("*block*.npz", {"*.sd.*.conduct", "*.f64.out", "*.f64.out_eval"}),
    "glif_net": ("*full*.npz", {"f64.spike_counts", "neuron_names", "param_names", "T"}),
    "glif_steps": ("*steps*.npz", {"sd0.*", "f64.losses", "f64.final.*", "X", "Y"}),
    "glif_schedules": ("*schedule*.npz", {"tunable.lr", "dvs.lr", "dvs.T_max"}),
    "ide_frames": ("*frames*.npz", {"events0"}),
    "ide_net": ("*.npz", {"x.W", "T", "leaky", "G", "rate", "beta_exact", "gradx.x.W"}),
    "ide_training": ("*.npz", {"x.W", "leaky", "x0", "y0", "logits0", "loss", "cls.W_end"}),
    "ide_rates": ("*.npz", {"x.W", "leaky", "x0", "rate0.layer1", "layer_rate_true"}),
    "ide_broyden": ("*.npz", {"k0.A", "k0.c", "k0.threshold", "k0.x_exact"}),
    "ide_spectral": ("*spectral*.npz", {"*.u0", "*.v0", "*.upstream", "*.step1.weff"}),
    "fs_surrogate": ("*surrogate*.npz", {"u_minus_theta", "superspike_grad_f64"}),
    "fs_culif": ("neuron_culif*.npz", {"*_tau_mem", "*_tau_syn", "*_I_f64", "*_detach_reset"}),
    "fs_pculif": ("*pculif*.npz", {"*_decay_syn", "*_I_f64", "*_grad_decay_syn_f64"}),
    "fs_adlif": ("*adlif*.npz", {"*_decay_osc", "*_w_f64", "*_grad_decay_osc_f64"}),
    "fs_layers": ("*superspike*.npz", {"*_u_tested_f64", "conv_s_pool_f64", "rec_v"}),
    "fs_recurrent": ("*recurrent*.npz", {"w_in", "w_rec", "h_f64", "tau_syn"}),
    "fs_coding": ("*first_spike*.npz", {"*_spikes", "*_potentials", "*_g_first", "*_kernel"}),
    "fs_losses": ("*loss*.npz", {"first_time", "firing_rate", "treg_lambda", "alpha_fs"}),
    "fs_mlp_k": ("*mlp*.npz", {"w_fc_layers.0.1.decay_osc", "drop_out_h_f64", "train_accum_*"}),
    "fs_mlp_a": ("*mlp*.npz", {"w_fc_layers.0.v", "train_zerograd_final_f64/*", "out_spikes_f64"}),
    "fs_conv": ("*conv*.npz", {"weight_k", "gesture_weight_scale", "superspike_plane_grad_x_f64"}),
    "fs_metrics": ("*metrics*.npz", {"b0_spikes", "fs_td_abs40", "avg_spike_count_per_layer"}),
    "fs_events": ("*events*.npz", {"dvs_events", "dvs_dt", "shd_times", "aedat_bytes", "clip_ts"}),
}


def pytest_configure(config: pytest.Config) -> None:
    root = Path(str(config.getoption("--golden-root")))
    if not any(root.rglob("*.npz")):
        raise pytest.UsageError(f"--golden-root {root}: expected a folder with .npz files below it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root = Path(str(metafunc.config.getoption("--golden-root")))
    # sorted: every worker of pytest-xdist must see the same order
    for fixture in sorted(KINDS.keys() & set(metafunc.fixturenames)):
        files = _find(root, *KINDS[fixture])
        metafunc.parametrize(
            fixture, files, indirect=True, ids=[str(file.relative_to(root)) for file in files]
        )


def _find(root: Path, pattern: str, names: set[str]) -> list[Path]:
    found = []
    for path in sorted(root.rglob(pattern)):
        with np.load(path, allow_pickle=False) as arrays:
            if all(matching(arrays.files, name) for name in names):
                found.append(path)
    return found


def _load(request: pytest.FixtureRequest) -> Arrays:
    with np.load(request.param, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


for _name in KINDS:
    globals()[_name] = pytest.fixture(_load, name=_name)


@pytest.fixture(autouse=True)
def synapses_work_on_what_fired() -> Iterator[None]:
    """Networks this small would be computed densely, as they are in all the other tests."""
    with sparse("on"):
        yield
