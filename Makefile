# Everything a user or a contributor runs. Needs Python 3.11 or later and a package index; no root.
# PYTHON=/path/to/python picks another interpreter than scripts/find-python would.

.DEFAULT_GOAL := help
ifndef AT_ONCE
.NOTPARALLEL:
endif
MAKEFLAGS += --no-print-directory
# Thousands of processes start here: without bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# Where present, `make test` runs on the newest of these as well, `make test-matrix` on all.
OTHER_PYTHONS := 3.12 3.13
NEWEST_PYTHON := $(lastword $(OTHER_PYTHONS))

# Tests that need no machine for themselves share it.
UNITS := -m pytest -q -n 4 --dist loadfile --ignore tests/e2e
# Of the end-to-end tests most wait for processes. Two of these fill it, and the others do need it for themselves, or
# measure how long something takes.
IN_PAIRS := $(wildcard $(patsubst %,tests/e2e/test_%.py, acl cardinality truth_arq truth_celery))
ALONE := $(wildcard $(patsubst %,tests/e2e/test_%.py, faults feed_faults flood http scale))
BESIDE_EACH_OTHER := -n 4 --dist loadfile --no-loadscope-reorder
# Those that take longest begin first, or all would wait for the last of them.
LONG := $(patsubst %,tests/e2e/test_%.py, celery_outage compose_stack celery_workers arq_endings wheel celery_endings)
# Rules that run many times as fast as they should do not wait for a busy machine.
ALERTING := $(wildcard $(patsubst %,tests/e2e/test_%.py, alerts alerts_outage demo_watched replicas))

# Workers of older versions of arq run in environments of their own: of the oldest in every run of the tests, of these
# in `make test-matrix`. The newest is in the environment of the tests.
OLDER_ARQS := 023 025 0263

# Of Celery the oldest and the newest have theirs, for every run; `make test-matrix` adds the one that is in the
# environment of the tests.
CELERIES := .venv-celery54 .venv-celery57

# Grafana's own libraries, by which dashboards are checked where there is Node.
GRAFANA := grafana/preview/node_modules

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/.made ## queues, workers, a workload and the exporter on this machine (DURATION=seconds, PORT=number)
	@.venv/bin/taskqueue-exporter demo $(if $(DURATION),--duration $(DURATION)) $(if $(PORT),--port $(PORT))

.PHONY: test
test: servers linted-environments test-main test-celery57 test-newest ## servers, lint and all tests, on the first and the newest Python

ENVIRONMENTS := .venv-test/.made .venv-arq023/.made $(CELERIES:%=%/.made) $(GRAFANA)/.made

# One after the other they take twice as long.
.PHONY: linted-environments
linted-environments: ## what `make test` runs in, and lint beside it
	@newest=$$(scripts/find-python $(NEWEST_PYTHON) 2>/dev/null || true); \
	[ "$$newest" != "$${PYTHON:-$$(scripts/find-python)}" ] || newest=; \
	$(MAKE) -s -j 2 AT_ONCE=yes $(ENVIRONMENTS) lint $${newest:+.venv-$(NEWEST_PYTHON)/.made}

.PHONY: test-main
test-main: $(ENVIRONMENTS) ## all tests, on the first Python
	@.venv-test/bin/python $(UNITS)
	@.venv-test/bin/python -m pytest -q --durations 10 $(BESIDE_EACH_OTHER) $(LONG) tests/e2e $(IN_PAIRS:%=--ignore %) $(ALONE:%=--ignore %) $(ALERTING:%=--ignore %)
	@.venv-test/bin/python -m pytest -q -n 2 --dist load $(IN_PAIRS)
	@.venv-test/bin/python -m pytest -q --durations 10 $(BESIDE_EACH_OTHER) $(ALERTING)
	@.venv-test/bin/python -m pytest -q --durations 20 $(ALONE)

# The exporter with the newest redis-py, watching jobs of the arq that cannot live beside it: all that it asks of a Redis
# goes through redis-py, or is said as that says it. What it makes of the answers is the same in both stacks. All of these
# run in `make test-matrix`.
OF_CELERY57 := TEST_EXPORTER_PYTHON=$(CURDIR)/.venv-celery57/bin/python .venv-test/bin/python
ASKS_REDIS := layouts queues reaching sentinel
MORE_THAT_ASK_REDIS := acl celery_inspect celery_queues hook_workers
.PHONY: test-celery57
test-celery57: .venv-test/.made .venv-celery57/.made ## end-to-end tests of what it asks of Redis, with the exporter in the stack of Celery 5.7
	@echo "what it asks of Redis, with the exporter in the stack of Celery 5.7"
	@$(OF_CELERY57) -m pytest -q $(BESIDE_EACH_OTHER) -m "not slow" $(wildcard $(ASKS_REDIS:%=tests/e2e/test_%.py))

.PHONY: test-matrix
test-matrix: .venv-test/.made $(OLDER_ARQS:%=.venv-arq%/.made) $(CELERIES:%=%/.made) $(GRAFANA)/.made ## all Pythons; every ending of jobs, over arq 0.23 to 0.28 and Celery 5.4 to 5.7
	$(call on-each,$(OTHER_PYTHONS))
	@status=0; \
	for python in $(OLDER_ARQS:%=.venv-arq%/bin/python) .venv-test/bin/python; do \
	    echo "ends of jobs with $$($$python -c 'import arq; print("arq", arq.VERSION)')"; \
	    TEST_THOROUGH=yes TEST_ARQ_PYTHONS=$(CURDIR)/$$python .venv-test/bin/python -m pytest -q tests/e2e/test_arq_endings.py || status=1; \
	done; \
	for python in $(CELERIES:%=%/bin/python) .venv-test/bin/python; do \
	    echo "ends of tasks with $$($$python -c 'import celery; print("celery", celery.__version__)')"; \
	    TEST_CELERY_PYTHONS=$(CURDIR)/$$python .venv-test/bin/python -m pytest -q tests/e2e/test_celery_endings.py || status=1; \
	done; \
	! command -v go >/dev/null || $(MAKE) pint || status=1; \
	! command -v go >/dev/null || $(MAKE) dashboard-linter || status=1; \
	! command -v go >/dev/null || $(MAKE) manifests-check || status=1; \
	$(MAKE) release-check || status=1; \
	! command -v podman >/dev/null || $(MAKE) image-check || status=1; \
	echo "ten minutes of the demo, with the rules as they are"; \
	TEST_DEMO_SECONDS=600 .venv-test/bin/python -m pytest -q tests/e2e/test_demo_watched.py || status=1; \
	echo "an outage of a minute"; \
	TEST_OUTAGE_SECONDS=60 .venv-test/bin/python -m pytest -q tests/e2e/test_celery_outage.py || status=1; \
	echo "great numbers and all combinations"; \
	TEST_THOROUGH=yes .venv-test/bin/python -m pytest -q $$(grep -l THOROUGH tests/*/test_*.py | grep -v endings) || status=1; \
	$(MAKE) test-celery57 ASKS_REDIS="$(ASKS_REDIS) $(MORE_THAT_ASK_REDIS)" || status=1; \
	$(OF_CELERY57) -m pytest -q -m "not slow" tests/e2e/test_faults.py || status=1; \
	exit $$status

# What depends on the interpreter or on what is installed beside it; the systems' own logic, and whatever Hypothesis makes
# up, is left to `make test-matrix`.
.PHONY: test-newest
test-newest: NOT_ON_EACH := --ignore tests/systems --ignore tests/hooks --ignore tests/rules --ignore tests/grafana --ignore tests/deploy -m "not slow and not hypothesis"
test-newest: .venv-test/.made ## units but those of the systems, the hook, the rules, the dashboards and what is deployed, on the newest Python where present
	$(call on-each,$(NEWEST_PYTHON),NOT_ON_EACH='$(NOT_ON_EACH)')

# Runs on those of these Pythons that are present, but for the one that runs all tests.
define on-each
@main=$$(.venv-test/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(1); do \
	    [ "$$version" = "$$main" ] || ! scripts/find-python "$$version" >/dev/null 2>&1 || \
	        $(MAKE) "test-$$version" $(2) || exit 1; \
	done
endef

test-3.%: .venv-3.%/.made
	@echo "the same on Python 3.$*"
	@.venv-3.$*/bin/python $(UNITS) -m "not slow" $(NOT_ON_EACH)

.PHONY: servers
servers: ## the servers that tests need, from the distribution's packages where they may be installed
	@scripts/ensure-servers

.PHONY: lint
lint: .venv-test/.made ## ruff and mypy --strict
	@.venv-test/bin/ruff check
	@.venv-test/bin/ruff format --check
	@.venv-test/bin/mypy

.PHONY: pint
pint: .pint ## cloudflare/pint over the rules of Prometheus; takes Go, which builds it the first time
	@./.pint --no-color --log-level warn --offline --config prometheus/pint/pint.hcl lint --fail-on=warning prometheus/rules

.pint: prometheus/pint/go.mod prometheus/pint/go.sum
	@go -C prometheus/pint build -o $(CURDIR)/.pint github.com/cloudflare/pint/cmd/pint

# Go's proxy must have it: some mirrors refuse it. The tests in tests/grafana hold to its rules without it.
.PHONY: dashboard-linter
dashboard-linter: .dashboard-linter ## Grafana's dashboard-linter over the dashboards; takes Go, which builds it the first time
	@status=0; \
	for file in grafana/dashboards/*.json; do \
	    said=$$(./.dashboard-linter lint --strict --config grafana/linter/exceptions.lint "$$file" 2>&1) || \
	        { echo "$$file"; echo "$$said"; status=1; }; \
	done; \
	exit $$status

.dashboard-linter: grafana/linter/go.mod grafana/linter/go.sum
	@go -C grafana/linter build -o $(CURDIR)/.dashboard-linter github.com/grafana/dashboard-linter

.PHONY: bench
bench: .venv-test/.made ## load generators and measurements
	@.venv-test/bin/python -m bench

.PHONY: docs
docs: .venv-test/.made ## the references of metrics and alerts, from the catalogue and the rules
	@.venv-test/bin/python -m exporter.catalogue > docs/metrics.md
	@.venv-test/bin/python -m scripts.alerts_reference > docs/alerts.md

.PHONY: dashboards
dashboards: .venv-test/.made ## grafana/dashboards, from grafana/src
	@.venv-test/bin/python -m grafana.src grafana/dashboards

.PHONY: pictures
pictures: .venv-test/.made ## docs/pictures, as Grafana's components draw the dashboards (PROMETHEUS=url, of one that watches a demo)
	@npm --prefix grafana/preview ci --no-audit --no-fund --loglevel error
	@rm -rf docs/pictures && mkdir docs/pictures
	@node grafana/preview/preview.mjs --prometheus $(or $(PROMETHEUS),http://127.0.0.1:9090) --dashboards grafana/dashboards \
	    --out docs/pictures --from now-1h --width 1440 --theme dark

.PHONY: image
image: ## the exporter's image, by docker, podman or buildah, whichever is there
	@scripts/image

.PHONY: image-check
image-check: .venv-test/.made ## build both images on a base made here and run them as they are to be run (root, buildah, podman, mmdebstrap)
	@scripts/image-check

.PHONY: manifests
manifests: .venv-test/.made ## what is generated of deploy/kubernetes, from the rules
	@.venv-test/bin/python -m scripts.manifests

.PHONY: manifests-check
manifests-check: .venv-test/.made ## kustomize and kubeconform over the manifests; takes Go, which builds them the first time
	@scripts/manifests-check

.PHONY: dist
dist: .venv-release/.made ## wheel and source distribution of both, in dist/
	@scripts/dist

.PHONY: sbom
sbom: .venv-release/.made ## bills of materials (CycloneDX) of what is shipped, in dist/
	@scripts/sbom

.PHONY: release-check
release-check: .venv-test/.made .venv-release/.made ## make a release twice, in other surroundings, compare, install it
	@.venv-test/bin/python -m pytest -q tests/deploy/release_checks.py

.PHONY: audit
audit: .venv-release/.made ## known vulnerabilities of what is shipped
	@scripts/audit

# In an environment of its own: it must work when the pinned files do not.
.PHONY: requirements
requirements: .venv-uv/.made ## resolve requirements/*.txt anew (UPGRADE=1: to the newest versions)
	@scripts/requirements .venv-uv/bin/uv $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove environments, caches and build results
	@rm -rf .venv .venv-* $(GRAFANA) .pint .dashboard-linter .pytest_cache .mypy_cache .ruff_cache hooks/.ruff_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made: pyproject.toml hooks/pyproject.toml requirements/stack-arq.txt requirements/build.txt
	@scripts/make-venv .venv requirements/stack-arq.txt

.venv-test/.made: pyproject.toml hooks/pyproject.toml requirements/dev.txt requirements/build.txt
	@scripts/make-venv .venv-test requirements/dev.txt

.venv-celery57/.made: pyproject.toml hooks/pyproject.toml requirements/stack-celery57.txt requirements/build.txt
	@scripts/make-venv .venv-celery57 requirements/stack-celery57.txt

.venv-3.%/.made: pyproject.toml hooks/pyproject.toml requirements/dev.txt requirements/build.txt
	@scripts/make-venv .venv-3.$* requirements/dev.txt 3.$*

.venv-arq%/.made: requirements/stack-arq%.txt
	@scripts/make-venv --bare .venv-arq$* $<

.venv-celery54/.made: requirements/stack-celery54.txt
	@scripts/make-venv --bare .venv-celery54 $<

# Else make would remove the stamps of a pattern rule as mere by-products.
.PRECIOUS: .venv-3.%/.made .venv-arq%/.made

# All that the preview needs where that was installed, else what the tests do.
$(GRAFANA)/.made: grafana/preview/package.json grafana/preview/package-lock.json
	@! command -v npm >/dev/null || { \
	    echo "installing $(@D)" && cd $(dir $(@D)) && \
	    npm ci $$([ -d node_modules/@grafana/ui ] || echo --omit=dev) --no-audit --no-fund --loglevel=error >/dev/null && \
	    touch node_modules/.made; \
	}

.venv-release/.made: requirements/release.txt
	@scripts/make-venv --bare .venv-release $<

.venv-uv/.made:
	@"$${PYTHON:-$$(scripts/find-python)}" -m venv --clear .venv-uv
	@.venv-uv/bin/python -m pip --disable-pip-version-check install --quiet uv
	@touch $@
