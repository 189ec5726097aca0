# docker build -t model-inference-engine:cpu .
# docker build -t model-inference-engine:cuda --build-arg ACCELERATOR=cuda .
#
# The CUDA image needs no CUDA base: the locked wheels bring CUDA's libraries, the NVIDIA container toolkit the driver.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY requirements-dev.lock .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-deps --only-binary :all: --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY pool pool
COPY server server
RUN /opt/venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM ${PYTHON_IMAGE}
# cpu or cuda. PyTorch's own index holds its builds without CUDA, with the same version numbers.
ARG ACCELERATOR=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin engine \
 && install -d -o engine -g engine /models /models/huggingface /models/ultralytics /models/converted

# Far larger than the rest and rarely different: a layer of its own. pip compiles bytecode here, for good: the
# file system is read-only later.
WORKDIR /opt/locks
COPY requirements.lock requirements-cpu.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    set -eu; \
    python3 -m venv /opt/venv; \
    install="/opt/venv/bin/pip install --no-deps --only-binary :all:"; \
    case "${ACCELERATOR}" in \
      cuda) $install --require-hashes -r requirements.lock ;; \
      cpu)  $install --require-hashes -r requirements-cpu.lock; \
            $install --index-url "${TORCH_CPU_INDEX}" $(grep -oE '^(torch|torchvision)==[0-9.]+' requirements.lock) ;; \
      *)    echo "ACCELERATOR is cpu or cuda, not '${ACCELERATOR}'" >&2; exit 1 ;; \
    esac
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    /opt/venv/bin/pip install --no-deps --no-index /dist/*.whl

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
