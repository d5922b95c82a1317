# One image for the API, the indexer and the administration: the command picks which.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils >/dev/null
# The venv gets no pip of its own: nothing is ever installed into a running container.
RUN python -m venv --without-pip /opt/venv
COPY config/requirements.txt /build/
RUN pip --python /opt/venv/bin/python install --only-binary :all: --require-hashes --no-compile \
        -r /build/requirements.txt
COPY pyproject.toml setup.cfg README.md /build/
COPY eventsvc /build/eventsvc
RUN pip --python /opt/venv/bin/python install --no-deps --no-compile /build \
 && find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} + \
 && find /opt/venv \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete \
 && find /opt/venv -name '*.so' -not -path '*.libs/*' -exec strip --strip-debug {} + \
 && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON}
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="eventsvc" \
      org.opencontainers.image.description="A logging service: POST events, find them again, exactly and fast" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/venv /opt/venv
# Nothing is written but to HOME's /tmp, which a read-only root needs as a tmpfs, and to /dev/shm, which is one.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    EVENTSVC_HOST=0.0.0.0 EVENTSVC_PORT=8000 EVENTSVC_LOG_FORMAT=json
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=120s --retries=3 CMD ["python", "-m", "eventsvc.serve.healthcheck"]
ENTRYPOINT ["eventsvc"]
CMD ["serve"]
