# The image of the `evidence` command: a worker unless told otherwise.

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-build.txt \
    && python -m venv /opt/evidence \
    && /opt/evidence/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY sinks sinks
COPY pipeline pipeline
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheels \
    && /opt/evidence/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.11.13-slim-bookworm
# /lake belongs to the user, and so does a new volume that is mounted there
RUN groupadd --gid 10001 evidence \
    && useradd --uid 10001 --gid evidence --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin evidence \
    && install --directory --owner evidence --group evidence /lake /flags
COPY --from=build /opt/evidence /opt/evidence
ENV PATH=/opt/evidence/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EVIDENCE_LAKE=/lake \
    EVIDENCE_FLAGS=/flags
USER 10001:10001
VOLUME ["/lake"]
ENTRYPOINT ["evidence"]
CMD ["worker"]
