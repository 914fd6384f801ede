# SuperNode: what a developer and a new user run. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTANCE ?= demo
CLUSTER := $(BIN)/python devcluster/cluster.py

.PHONY: help venv gen check test coverage demo demo-down bench chart image kind-up kind-down lock
.DEFAULT_GOAL := help
# Without its cache Python compiles whatever it imports, in each of some thousand processes of the tests.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## make the isolated Python environment from the lock file
	@PYTHON="$(PYTHON)" devcluster/venv.sh $(VENV)

gen: venv ## generate everything that is generated: CRDs, gRPC stubs, schemas, reference pages
	$(BIN)/python -m supernode_api.generate
	$(BIN)/python -m supernode_deviceplugin.generate
	$(BIN)/python -m supernode_cabinet.tables docs/telemetry.md
	$(BIN)/python -m supernode_cli.scenario_schema docs/scenario.schema.json
	$(BIN)/python tests/support/regenerate.py
	$(BIN)/python tests/support/chart_values.py
	$(BIN)/python tests/support/fidelity.py

check: venv ## lint, types, import contracts
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The cluster's programs are built behind all that comes before the tests which need them; what is left then is waited
# for. Two processes: tests that compute run beside tests that wait; those on a cluster are one after the other.
test: ## every test there is: pure, api, node, e2e (on real clusters that it starts and stops)
	@set -m; mkdir -p .build; \
	nice -n 19 $(PYTHON) devcluster/cluster.py prepare --programs > .build/programs.log 2>&1 & build=$$!; set +m; \
	trap 'kill -- -$$build 2> /dev/null' EXIT; \
	$(MAKE) --no-print-directory check && \
	SUPERNODE_REQUIRE_LEVELS=1 SUPERNODE_PREPARE=1 \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

# Not a part of `test`: tracing doubles what these tests cost. What waits for a scripted kubelet decides nothing.
coverage: venv ## every line and branch of what operator and node agent decide (domain/) is run by a pure test
	$(BIN)/python -m pytest -q tests/operator tests/deviceplugin --ignore-glob='*/test_agent_*' \
		-m "not api and not node and not e2e" --cov --cov-report=term

demo: venv ## a real Kubernetes with a whole supernode and a training run on it
	@$(BIN)/python devcluster/demo.py up --instance $(INSTANCE)

demo-down: venv ## stop the demo; nothing of it stays
	@$(BIN)/python devcluster/demo.py down --instance $(INSTANCE)

bench: venv ## measure design budgets on this machine
	@$(CLUSTER) prepare
	@$(BIN)/python bench/run.py

chart: venv ## render and lint the chart
	@$(CLUSTER) prepare
	SUPERNODE_REQUIRE_LEVELS=api $(BIN)/python -m pytest -q tests/chart

image: venv ## build the image archive, without Docker
	@$(CLUSTER) image

kind-up: ## the same chart and image on kind (needs docker, kind, helm, kubectl)
	devcluster/kind-up.sh

kind-down: ## delete the kind cluster
	kind delete cluster --name supernode

lock: venv ## resolve the lock files anew (needs uv)
	devcluster/lock.sh
