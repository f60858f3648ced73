# The sidecar as an image: `docker build -t policy-sidecar .`; the settings are in docs/configuration.md. It needs a
# catalog: mount yours and name it in SIDECAR_PLANS. The one that is shipped is a demo, and is not served by itself.
FROM python:3.11-slim AS build
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

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin sidecar \
    && install -d -o sidecar /run/sidecar /bundles
COPY --from=build /opt/sidecar /opt/sidecar
ENV PATH=/opt/sidecar/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER sidecar
EXPOSE 8080
# Alive, not ready: an orchestrator that restarts the sidecar because PostgreSQL is down helps nobody.
HEALTHCHECK --interval=10s --timeout=2s --start-period=20s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=1); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["sidecar"]
CMD ["serve"]
