# The sidecar as an image: `docker build -t policy-sidecar .`; the settings are in docs/configuration.md. It needs a
# catalog: mount yours and name it in SIDECAR_PLANS. The one that is shipped is a demo, and is not served by itself.
# A tag moves. To build the same again, name the base by its digest: --build-arg PYTHON=python:3.11-slim@sha256:…
# (`docker buildx imagetools inspect python:3.11-slim` has it). No registry answers where this project is built, so none is here.
ARG PYTHON=python:3.11-slim
FROM ${PYTHON} AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE plans.yaml ./
COPY policies policies
COPY schemas schemas
COPY sql sql
COPY worlds worlds
COPY sidecar sidecar
RUN python -m venv /opt/sidecar \
    && /opt/sidecar/bin/pip install --no-cache-dir --no-compile -c constraints.txt '.[grpc,stripe]' \
    && /opt/sidecar/bin/pip uninstall -y pip setuptools

FROM ${PYTHON}
ARG PYTHON
ARG REVISION=unknown
LABEL org.opencontainers.image.title="policy-sidecar" \
      org.opencontainers.image.description="May this user, in this workspace, perform this action now, and if not, why, and what would change that?" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/${PYTHON}"
RUN groupadd --system --gid 10001 sidecar \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin sidecar \
    && install -d -o 10001 -g 10001 /run/sidecar /bundles
COPY --from=build /opt/sidecar /opt/sidecar
COPY deploy/image/healthy /usr/local/bin/healthy
ENV PATH=/opt/sidecar/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 10001:10001
EXPOSE 8080
# Alive, not ready: an orchestrator that restarts the sidecar because PostgreSQL is down helps nobody.
HEALTHCHECK --interval=10s --timeout=2s --start-period=20s CMD ["healthy"]
ENTRYPOINT ["sidecar"]
CMD ["serve"]
