# One image for the API, the workers and the projections; the command decides which it is.
FROM python:3.13.9-slim-trixie AS build
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# Only what production needs: the lock file gives the versions, pyproject.toml the list.
RUN python -m venv /venv \
    && /venv/bin/python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" > wanted.txt \
    && /venv/bin/pip install --no-cache-dir --constraint requirements.lock --requirement wanted.txt

FROM python:3.13.9-slim-trixie
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin hyderabad
WORKDIR /app
COPY --from=build /venv /venv
COPY activities activities
COPY adapters adapters
COPY api api
COPY domain domain
COPY migrations migrations
COPY notices notices
COPY projections projections
COPY workflows workflows
COPY admin.py worker.py ./
# The sandbox loads the modules of a workflow for each run: from bytecode, for nobody may write any later.
RUN python -m compileall -q .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0
USER 10001
EXPOSE 8080
CMD ["python", "-m", "api"]
