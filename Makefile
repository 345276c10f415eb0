# `make run` and `make test` are all that is needed to start.
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
PORT ?= 8080
# Files of tests in two processes, each with engines of its own.
TWO := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
export UV_PYTHON_DOWNLOADS = never
# Each run of a workflow reloads its module; without cached bytecode it would be compiled every time.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help run demo admin mails test test-temporal test-gateway test-search check bench temporal gateway opensearch migrate lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# Depends on the lock file, so that a changed one is installed.
.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@test ! -L .venv || { echo ".venv is a link to another checkout's environment, which would be cleared. Remove the link."; exit 1; }
	@echo "Installing into .venv (a minute the first time) ..."
	@$(PYTHON) -m venv --clear .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@touch $@

run: .venv/.installed ## everything on this machine: engines, workers, projections, API (PORT=8080)
	@PORT=$(PORT) exec $(PY) -m embedded $(if $(TEMPORAL),--temporal $(TEMPORAL)) $(if $(SEARCH),--search $(SEARCH))

demo: .venv/.installed ## sign up owners and list properties through the API (CSV=path for real rows, PORT=8080)
	@$(PY) -m demo --url http://127.0.0.1:$(PORT) $(if $(CSV),--csv $(CSV))

admin: .venv/.installed ## make a user an administrator of the running platform (EMAIL=ravi@example.com)
	@test -n "$$EMAIL" || { echo "Give an e-mail address: make admin EMAIL=ravi@example.com"; exit 2; }
	@test -f .data/environment || { echo "The platform is not running here. Start it first: make run"; exit 1; }
	@set -a; . .data/environment; exec $(PY) -m admin --email "$$EMAIL"

mails: .venv/.installed ## show every notice in every form on one page, .data/mails.html
	@$(PY) -m notices

test: .venv/.installed ## the tests, on embedded engines
	@$(PY) -m pytest $(TWO)

test-temporal: .venv/.installed temporal ## the tests that need the real Temporal server, on Postgres
	@TEST_TEMPORAL=server $(PY) -m pytest $(TWO) -m temporal

test-gateway: .venv/.installed gateway ## the tests that go through Caddy, as docker-compose.yml does
	@TEST_GATEWAY=caddy $(PY) -m pytest -m gateway

test-search: .venv/.installed opensearch ## the tests of searching, on OpenSearch
	@TEST_SEARCH=opensearch $(PY) -m pytest $(TWO) -m search

check: .venv/.installed ## style, types, imports, migrations, compose file, Dockerfile, documents, OpenAPI rules
	@$(PY) -m checks

bench: .venv/.installed ## measure, each figure beside its baseline
	@$(PY) -m bench $(if $(SEARCH),--search $(SEARCH))

temporal: .venv/.installed ## build the Temporal server and its web UI (needs Go)
	@$(PY) -m embedded.temporal_server
	@$(PY) -m embedded.temporal_ui

gateway: .venv/.installed ## build Caddy (needs Go)
	@$(PY) -m embedded.gateway

opensearch: .venv/.installed ## fetch OpenSearch (80 MB, needs nothing but Python)
	@$(PY) -m embedded.opensearch

migrate: .venv/.installed ## bring DATABASE_URL, Kafka, Temporal and S3 up to date
	@$(PY) -m migrations

lock: .venv/.installed ## update the lock files to the newest allowed versions
	@$(PY) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate -o requirements.lock
	@$(PY) -m embedded.kafka lock
	@$(PY) -m embedded.opensearch lock

clean: ## remove .venv and all data of `make run`
	rm -rf .venv .data .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
