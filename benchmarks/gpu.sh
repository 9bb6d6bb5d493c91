#!/usr/bin/env bash
# Everything that needs a GPU, in one command: benchmarks/gpu.sh [OUTPUT [WHEELS]]
#
#   OUTPUT   folder for tables, CSV files, logs and runs; results-gpu if left out
#   WHEELS   folder of wheels to use beside what is installed ($SPIKELOOM_WHEELS if left out);
#            nothing is fetched, and nothing is installed outside OUTPUT
#
# 1. kernels against float64 on the CPU: spikes, gradients of the input and of every constant
# 2. short real trainings of the bundled digits, one of each method
# 3. neuron layers against a copy on the device, eager PyTorch and peers, float32 and bfloat16
# 4. whole training steps against the same networks with ReLU, float32 and bfloat16
# 5. a linear layer with LIF: N up to 16384, T up to 500; float32, TF32, bfloat16
# 6. first call with an empty and a filled kernel cache
# 7. torch.compile beside the kernels, as far as the time goes: it unrolls T
#
# It ends within BUDGET seconds (480): each part has a limit of its own, what was measured before a
# limit is kept, and a part that no time is left for is named. It fails if a kernel disagreed.
#
# The machine's Python needs torch (CUDA), triton, numpy, numba, typer, rich, safetensors,
# tensorboard, matplotlib, pillow and h5py. What its image may lack, as wheels for its Python:
#
#   needed   pydantic pydantic_core annotated_types typing_inspection typing_extensions tomli_w
#   peers    spikingjelly loguru snntorch norse sinabs nir nirtorch pbr    (torchvision comes with
#            the image; without it Norse's and SpikingJelly's lines may be absent)
#
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 -d WHEELS NAME==VERSION
#   python3 -m pip wheel --no-deps -w WHEELS norse==1.1.0       (published as source only)
#
# Without a CUDA device it runs in a reduced form, on tiny shapes: the GPU kernels in Triton's
# interpreter on CPU tensors where triton is installed (Triton before 3.7 interprets nothing beside
# numpy 2.4), the CPU kernels elsewhere. Its times mean nothing; it shows that the script is whole.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:-results-gpu}"
out=$(cd "${1:-results-gpu}" && pwd)
wheels=${2:-${SPIKELOOM_WHEELS:-}}
python=${PYTHON:-python3}
budget=${BUDGET:-480}

export PYTHONPATH=$root/src:$root${PYTHONPATH:+:$PYTHONPATH}
if [ -n "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
        --target "$out/site" "$wheels"/*.whl || exit 2
    export PYTHONPATH=$out/site:$PYTHONPATH
fi
export OMP_WAIT_POLICY=passive
cd "$out" || exit 2

where=$("$python" -c '
import importlib.util, torch
print("cuda" if torch.cuda.is_available() else "triton" if importlib.util.find_spec("triton") else "cpu")
') || exit 2
case $where in
cuda)
    kernels=(--device cuda --backend gpu)
    rounds=("${kernels[@]}" --rounds 5)
    ;;
triton)
    export TRITON_INTERPRET=1
    kernels=(--device cpu --backend gpu)
    rounds=("${kernels[@]}" --rounds 1)
    ;;
cpu)
    kernels=(--device cpu)
    rounds=("${kernels[@]}" --rounds 1)
    ;;
esac

wrong=0
: >stages.txt
stage() { # stage NAME LIMIT COMMAND...: its log is NAME.log, how it went a line of stages.txt
    local name=$1 limit=$2 left=$((budget - SECONDS)) begin=$SECONDS code
    shift 2
    if [ $left -lt 5 ]; then
        echo "$name: not run, no time left" | tee -a stages.txt
        return
    fi
    timeout $((limit < left ? limit : left)) "$@" >"$name.log" 2>&1
    code=$?
    case $code in
    0) echo "$name: done in $((SECONDS - begin)) s" ;;
    124) echo "$name: cut short after $((SECONDS - begin)) s" ;;
    *) echo "$name: FAILED with code $code, see $name.log: $(tail -n 1 "$name.log")" ;;
    esac | tee -a stages.txt
    if [ $code -ne 0 ] && [ $code -ne 124 ]; then wrong=1; fi
}
loom() { local name=$1 limit=$2; shift 2; stage "$name" "$limit" "$python" -m spikeloom "$@"; }
bench() { local name=$1 limit=$2; shift 2; stage "$name" "$limit" "$python" -m benchmarks "$@"; }

echo "spikeloom on: $where"
if [ "$where" = cuda ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    bench agreement 100 agreement "${kernels[@]}" --csv agreement.csv
    loom train-plif 30 train plif/digits epochs=3 --out run-plif
    loom train-plif-bfloat16 30 train plif/digits epochs=3 precision=bfloat16 --out run-plif-bfloat16
    loom train-glif 30 train glif/digits epochs=3 --out run-glif
    loom train-dsr 30 train dsr/digits epochs=3 --out run-dsr
    loom train-ide 30 train ide/digits epochs=2 --out run-ide
    loom train-fs 30 train fs/digits-events epochs=3 --out run-fs
    bench neurons 120 neurons "${rounds[@]}" --csv neurons.csv
    bench training 60 training "${rounds[@]}" --csv training.csv
    bench linear 110 linear "${rounds[@]}" --csv linear.csv
    bench startup 60 startup "${kernels[@]}" --rounds 1 --csv startup.csv
    bench compiled 120 neurons LIF "${rounds[@]}" --torch-compile --csv compiled.csv
else
    bench agreement 200 agreement "${kernels[@]}" --small --csv agreement.csv
    loom train-plif 60 train plif/digits epochs=1 T=1 channels=4 device=cpu --out run-plif
    bench neurons 120 neurons PLIF GLIF "${rounds[@]}" --small --csv neurons.csv
    bench training 60 training plif/digits T=2 channels=4 --batch 2 "${rounds[@]}" --csv training.csv
    bench linear 60 linear "${rounds[@]}" --small --csv linear.csv
fi
"$python" -m benchmarks.summary "$out" | tee summary.txt
exit $wrong
