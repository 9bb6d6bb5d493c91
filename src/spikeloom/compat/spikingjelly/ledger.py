"""What SpikingJelly has and this does not: by name, with the reason and what to use instead."""

UNSUPPORTED: dict[str, str] = {
    "*.ann2snn": "conversion of trained ANNs is not part of spikeloom",
    "*.rnn": "spiking LSTM and GRU are not part of spikeloom; sl.nn.Recurrent feeds spikes back",
    "*.lava_exchange": "Loihi is reached through NIR (spikeloom export)",
    "*.lynxi_exchange": "chips of Lynxi are not supported",
    "*.nir_exchange": "spikeloom export writes NIR",
    "*.neuron_kernel": "CUDA text of SpikingJelly's; kernels are generated here",
    "*.cu_kernel_opt": "CUDA text of SpikingJelly's; kernels are generated here",
    "*.cuda_utils": "CUDA text of SpikingJelly's; kernels are generated here",
    "*.auto_cuda": "CUDA text of SpikingJelly's; kernels are generated here",
    "*.tensor_cache": "tensors are kept by the kernels themselves",
    "*.spike_op": "sparse products run by themselves: sl.sparse (docs/sparse.md)",
    "*.memopt": "kernels keep no potentials; docs/performance.md",
    "*.op_counter": "spikeloom.analysis.operations",
    "*.precision": "kernels compute in float32 under autocast by themselves",
    "*.distributed": "spikeloom train runs on several GPUs (docs/distributed.md)",
    "*.learning": "STDP and other local rules are not part of spikeloom",
    "*.quantize": "quantized neurons are not part of spikeloom",
    "*.profiler": "python -m benchmarks, spikeloom.explain",
    "clock_driven.model": "only activation_based.model is served",
    "*.model.spiking_vgg": "only spiking_resnet, sew_resnet and parametric_lif_net are served",
    "*.model.train_classify": "spikeloom train has a trainer of its own",
    "*.examples": "SpikingJelly's example programs are not copied",
    "*.neuron.AdaptiveBaseNode": "cannot be built in SpikingJelly itself; sl.AdLIF",
    "*.neuron.AdaptBaseNode": "base of IzhikevichNode only; sl.AdLIF",
    "*.neuron.LIAFNode": "its output is not spikes; a sl.Neuron of your own",
    "*.neuron.PLIFNode": "0.0.0.0.2's own, with a free 1/tau; use ParametricLIFNode or sl.PLIF",
    "*.neuron.RIFNode": "only in 0.0.0.0.2",
    "*.neuron.AdaptThresholdNode": "only in 0.0.0.0.2; sl.AdLIF",
    "*.neuron.GatedLIFNode": "sl.GLIF(channels, time_steps)",
    "*.neuron.CUBALIFNode": "sl.CuLIF",
    "*.neuron.DSRIFNode": "sl.ScaledIF and the method dsr",
    "*.neuron.DSRLIFNode": "sl.ScaledLIF and the method dsr",
    "*.neuron.OTTTLIFNode": "online rules are not part of spikeloom",
    "*.neuron.SLTTLIFNode": "online rules are not part of spikeloom",
    "*.neuron.FlexSN": "write a sl.Neuron: its step is compiled",
    "*.layer.STDPLearner": "STDP and other local rules are not part of spikeloom",
    "*.layer.DropConnectLinear": "not used by the code that was tried",
    "*.layer.DCT": "not used by the code that was tried",
    "*.layer.AXAT": "not used by the code that was tried",
    "*.layer.ChannelsPool": "not used by the code that was tried",
    "*.layer.ConvBatchNorm2d": "nn.Sequential(conv, bn) and functional.fuse_convbn2d",
    "*.layer.MultiDimensionalAttention": "fails in SpikingJelly itself (it has no relu)",
    "*.layer.SpikeLinear": "sparse products run by themselves: sl.sparse (docs/sparse.md)",
    "*.layer.SpikeConv2d": "sparse products run by themselves: sl.sparse (docs/sparse.md)",
    "*.surrogate.DeterministicPass": "not used by the code that was tried",
    "*.surrogate.PoissonPass": "draws random numbers: no kernel can",
    "*.surrogate.MultiLevelSpikeCount": "its output is not spikes",
    "*.functional.fptt_online_training": "online rules are not part of spikeloom",
    "*.functional.scale_fused_conv2d_weight_of_convbn2d": "not used by the code that was tried",
    "*.functional.scale_fused_conv2d_bias_of_convbn2d": "not used by the code that was tried",
    "*.monitor.GPUMonitor": "nvidia-smi, or spikeloom's report",
    "accelerating": "a module of 0.0.0.0.2 only: run as that version, --version 0.0.0.0.2",
    "event_driven": "the Tempotron and its encoders are not part of spikeloom; method fs",
    "timing_based": "the Tempotron and its encoders are not part of spikeloom; method fs",
    "visualizing": "spikeloom.plot",
    "datasets (recordings)": "only folders of frames are read; recordings by spikeloom.data.load",
    "backend='lava'": "Loihi is reached through NIR (spikeloom export)",
}
"""`*` is `clock_driven` and `activation_based`. The page docs/compat.md is made from this."""


def reason(module: str, name: str = "") -> str | None:
    """Why `module` (without `spikingjelly.`), or the name in it, is not here; None if it is not in
    the list.
    """
    place = f"{module}.{name}" if name else module
    package, _, rest = place.partition(".")
    for key in (place, f"*.{rest}", package, rest):
        if key in UNSUPPORTED:
            return UNSUPPORTED[key]
    return None
