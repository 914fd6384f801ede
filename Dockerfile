# One image for operator, node agent, cabinets and managed pods; the command chooses.
# A release pins the base by digest: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
COPY requirements-image.lock /build/
RUN python3 -m pip install --no-cache-dir --require-hashes --no-deps --only-binary=:all: --no-compile \
      --target /deps -r /build/requirements-image.lock \
 && find /deps -type d -name tests -prune -exec rm -rf {} + \
 && find /deps -name '*.pyi' -delete \
 && rm -rf /deps/bin
COPY crds/supernode_api /app/supernode_api
COPY operator/supernode_operator /app/supernode_operator
COPY deviceplugin/supernode_deviceplugin /app/supernode_deviceplugin
COPY dataplane/supernode_dataplane /app/supernode_dataplane
COPY dataplane/supernode_cabinet /app/supernode_cabinet
COPY workload/supernode_workload /app/supernode_workload
COPY cli/supernode_cli /app/supernode_cli
# Compiled once, here, the base's own library with it: the root file system of every container is read-only, and what has
# no bytecode would be compiled in each process. Some dependency holds a file in a syntax of its own, so these may fail in
# part; our own code may not.
ENV PYTHONPYCACHEPREFIX=/pycache
RUN (python3 -m compileall -q -f --invalidation-mode unchecked-hash \
      /deps "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" || true) \
 && python3 -m compileall -q -f --invalidation-mode unchecked-hash /app \
 && chmod -R a+rX /deps /app /pycache

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="SuperNode" \
      org.opencontainers.image.description="A Huawei Supernode 384 (CloudMatrix 384) for Kubernetes, without the hardware" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PYTHONPATH=/app:/deps \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/pycache
COPY --from=build /pycache /pycache
COPY --from=build /deps /deps
COPY --from=build /app /app
WORKDIR /
USER 65532:65532
CMD ["python3", "-m", "supernode_operator"]
