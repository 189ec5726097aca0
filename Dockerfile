# docker build -t model-inference-engine:cpu .
# docker build -t model-inference-engine:cuda --build-arg ACCELERATOR=cuda .
# docker build -t model-inference-engine:ray --build-arg EXTRAS=ray .
#
# The CUDA image needs no CUDA base: the locked wheels bring CUDA's libraries, the NVIDIA container toolkit the driver.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# pip, and the locked hatchling with what it needs. The image itself has neither.
FROM ${PYTHON_IMAGE} AS tools
WORKDIR /src
COPY requirements-dev.lock .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/tools \
 && awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements-dev.lock > requirements-tools.lock \
 && /opt/tools/bin/pip install --no-deps --only-binary :all: --require-hashes -r requirements-tools.lock

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY pool pool
COPY server server
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM ${PYTHON_IMAGE}
# cpu or cuda. PyTorch's own index holds its builds without CUDA, with the same version numbers.
ARG ACCELERATOR=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin engine \
 && install -d -o engine -g engine /models /models/huggingface /models/ultralytics /models/converted

# Left out, 0.6 GB of the CPU image: what Ultralytics draws and tabulates training results with, OpenVINO's plugins for
# devices and its readers of formats that are not ours, PyTorch's headers and test programs, tests, and the bytecode of
# the networks of transformers that are not BLIP's. tests/test_image_contents.py answers requests without it.
ARG UNNEEDED_PACKAGES="contourpy|cycler|fonttools|kiwisolver|matplotlib|polars|polars-runtime-32|pyparsing|python-dateutil|tzdata"
ARG UNNEEDED_FILES="\
    openvino/cmake openvino/include openvino/libs/cache.json openvino/libs/libopenvino_intel_gpu_plugin.so \
    openvino/libs/libopenvino_intel_npu_plugin.so openvino/libs/libopenvino_gguf_frontend.* \
    openvino/libs/libopenvino_jax_frontend.* openvino/libs/libopenvino_onnx_frontend.* \
    openvino/libs/libopenvino_paddle_frontend.* openvino/libs/libopenvino_tensorflow_lite_frontend.* \
    torch/include torch/share torch/test"

# Far larger than the rest and rarely different: a layer of its own. pip compiles bytecode here, for good: the
# file system is read-only later.
WORKDIR /opt/locks
COPY requirements.lock requirements-cpu.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    set -eu; \
    python3 -m venv --without-pip /opt/venv; \
    install="/opt/tools/bin/python -m pip --python /opt/venv/bin/python install --no-deps --only-binary :all:"; \
    needed() { awk -v "unneeded=^(${UNNEEDED_PACKAGES})==" '/^[a-z]/ { drop = $0 ~ unneeded } !drop' "$1" > requirements-needed.lock; }; \
    case "${ACCELERATOR}" in \
      cuda) needed requirements.lock; \
            $install --require-hashes -r requirements-needed.lock ;; \
      cpu)  needed requirements-cpu.lock; \
            $install --require-hashes -r requirements-needed.lock; \
            $install --index-url "${TORCH_CPU_INDEX}" $(grep -oE '^(torch|torchvision)==[0-9.]+' requirements.lock) ;; \
      *)    echo "ACCELERATOR is cpu or cuda, not '${ACCELERATOR}'" >&2; exit 1 ;; \
    esac; \
    cd /opt/venv/lib/python3.*/site-packages; \
    rm -rf ${UNNEEDED_FILES}; \
    find torch/bin -mindepth 1 ! -name torch_shm_manager -delete; \
    find numpy sympy networkx -type d -name tests -prune -exec rm -r {} +; \
    find transformers/models -type d -name __pycache__ ! -regex '.*/\(auto\|bert\|blip\|encoder_decoder\)/.*' -prune -exec rm -r {} +

# ray, or nothing, and then this layer is empty. With Ray comes wget, by which KubeRay asks a worker for Serve's proxy.
# ray is started once because pip skips what is not for the base image's Python and calls that a success.
ARG EXTRAS=""
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,source=requirements-ray.lock,target=/opt/locks/requirements-ray.lock \
    set -eu; \
    case "${EXTRAS}" in \
      "")  ;; \
      ray) apt-get update; \
           apt-get install --yes --no-install-recommends wget; \
           rm -rf /var/lib/apt/lists/*; \
           /opt/tools/bin/python -m pip --python /opt/venv/bin/python install --no-deps --only-binary :all: --require-hashes -r requirements-ray.lock; \
           /opt/venv/bin/ray --version ;; \
      *)   echo "EXTRAS is ray or nothing, not '${EXTRAS}'" >&2; exit 1 ;; \
    esac
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=wheel,source=/dist,target=/dist \
    /opt/tools/bin/python -m pip --python /opt/venv/bin/python install --no-deps --no-index /dist/*.whl

# Weights are kept in /models, everything else that a library wants to write goes to /tmp. Ultralytics reads the first of
# its three variables; the other two are set because people look for them.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    HF_HOME=/models/huggingface \
    HUGGINGFACE_HUB_CACHE=/models/huggingface/hub \
    ULTRALYTICS_CACHE_DIR=/models/ultralytics \
    ENGINE_CONVERTED_DIR=/models/converted \
    YOLO_CONFIG_DIR=/tmp/ultralytics \
    ULTRALYTICS_SETTINGS_DIR=/tmp/ultralytics \
    ULTRALYTICS_CONFIG_DIR=/tmp/ultralytics \
    ENGINE_ACCELERATOR=${ACCELERATOR} \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

USER engine
WORKDIR /models
VOLUME /models
EXPOSE 5000
STOPSIGNAL SIGTERM
# Not urllib, which would go through a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 5000, timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--"]
CMD ["inference-engine", "serve", "--host", "0.0.0.0", "--port", "5000"]
