"""Model files of published repositories that run on SpikingJelly, and how each is built."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """`build` is evaluated where `m` is the module `file`, `sj(part)` a module of SpikingJelly and
    `own(name)` another module of the repository. `loop`: calls of the network per sample, for those
    that take one step; 0 for those that take all.
    """

    repository: str
    file: str
    version: str
    build: str
    shape: tuple[int, ...]
    loop: int = 0


_TRANSFORMER = "img_size_h=32, img_size_w=32, patch_size=4, num_heads=8, in_channels=3, "
_TRANSFORMER += "num_classes=10, mlp_ratios=4, sr_ratios=1, "
_LATE, _IMAGE = "0.0.0.0.12", (2, 3, 32, 32)
_NODE = "neuron=own('modules.neuron').{}, surrogate_function=sj('surrogate').ATan(), c_in=3, "
_NODE += "neuron_dropout=0.0, tau=1.1"

MODELS = [
    Model(
        "fangwei123456/Parametric-Leaky-Integrate-and-Fire-Spiking-Neuron",
        "codes/models.py",
        "0.0.0.0.2",
        "m.MNISTNet(T=8, init_tau=2.0, use_plif=True, use_max_pool=True, alpha_learnable=True, "
        "detach_reset=True)",
        (4, 1, 28, 28),
    ),
    *(
        Model(
            "fangwei123456/Spike-Element-Wise-ResNet",
            f"{folder}/smodels.py",
            _LATE,
            "m.SEWResNet('ADD')",
            (1, 4, 2, 128, 128),
        )
        for folder in ("cifar10dvs", "dvsgesture")
    ),
    Model(
        "fangwei123456/Spike-Element-Wise-ResNet",
        "imagenet/sew_resnet.py",
        _LATE,
        "m.sew_resnet18(T=4, connect_f='ADD')",
        (1, 3, 64, 64),
    ),
    Model(
        "fangwei123456/Spike-Element-Wise-ResNet",
        "imagenet/spiking_resnet.py",
        _LATE,
        "m.spiking_resnet18(T=4)",
        (1, 3, 64, 64),
    ),
    Model(
        "fangwei123456/Parallel-Spiking-Neuron",
        "imagenet/sew_resnet.py",
        "0.0.0.0.14",
        "sj('functional').set_step_mode(net := m.sew_resnet18(cnf='ADD', T=4, surrogate_function="
        "sj('surrogate').ATan(), spiking_neuron=lambda T, **o: sj('neuron').IFNode(**o)), 'm') "
        "or net",
        (1, 3, 64, 64),
    ),
    Model(
        "ZK-Zhou/spikformer",
        "cifar10/model.py",
        _LATE,
        f"m.spikformer({_TRANSFORMER}embed_dims=128, depths=2, T=4)",
        _IMAGE,
    ),
    Model(
        "ZK-Zhou/spikformer", "cifar10dvs/model.py", _LATE, "m.spikformer()", (1, 4, 2, 128, 128)
    ),
    Model(
        "zhouchenlin2096/Spikingformer",
        "cifar10/model.py",
        _LATE,
        f"m.Spikingformer({_TRANSFORMER}embed_dims=128, depths=2, T=4)",
        _IMAGE,
    ),
    Model(
        "zhouchenlin2096/Spikingformer",
        "cifar10-dvs/model.py",
        _LATE,
        "m.Spikingformer()",
        (1, 4, 2, 128, 128),
    ),
    Model(
        "zhouchenlin2096/QKFormer",
        "cifar10/model.py",
        _LATE,
        f"m.QKFormer({_TRANSFORMER}embed_dims=128, depths=4, T=4)",
        _IMAGE,
    ),
    Model(
        "zhouchenlin2096/QKFormer",
        "dvs128-gesture/model.py",
        _LATE,
        "m.QKFormer()",
        (1, 4, 2, 128, 128),
    ),
    Model(
        "BICLab/Spike-Driven-Transformer",
        "model/spikeformer.py",
        _LATE,
        f"m.sdt({_TRANSFORMER}embed_dims=128, depths=2, T=4, pooling_stat='0011')",
        _IMAGE,
    ),
    Model(
        "BICLab/Spike-Driven-Transformer-V2",
        "classification/models.py",
        _LATE,
        "m.metaspikformer_8_384()",
        (2, 3, 128, 128),
    ),
    Model(
        "qymeng94/SLTT",
        "models/spiking_vgg_bn.py",
        _LATE,
        f"m.spiking_vgg11_bn({_NODE.format('SLTTNeuron')})",
        _IMAGE,
        loop=4,
    ),
    Model(
        "qymeng94/SLTT",
        "models/spiking_resnet.py",
        _LATE,
        f"m.spiking_resnet18({_NODE.format('BPTTNeuron')})",
        _IMAGE,
        loop=4,
    ),
    Model(
        "HuuYuLong/Complementary-LIF",
        "models/spiking_vgg_bn.py",
        _LATE,
        f"m.spiking_vgg11_bn({_NODE.format('ComplementaryLIFNeuron')})",
        _IMAGE,
        loop=4,
    ),
    Model(
        "loiccordone/object-detection-with-spiking-neural-networks",
        "models/spiking_vgg.py",
        _LATE,
        "m.multi_step_spiking_vgg11(2, norm_layer=torch.nn.BatchNorm2d, T=4, num_classes=2, "
        "multi_step_neuron=sj('neuron').MultiStepParametricLIFNode, detach_reset=True, "
        "surrogate_function=sj('surrogate').ATan())",
        (4, 1, 2, 64, 64),
    ),
    Model(
        "ridgerchu/TCJA",
        "src/dvs128.py",
        _LATE,
        "m.CextNet(128)",
        (1, 20, 2, 128, 128),
    ),
]
