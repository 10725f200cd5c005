# One entry point for people and CI alike. `make demo` and `make test` need only Python 3.11+, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The tests in twice as many processes as there are cores, because many tests wait for daemons. A process that has no more work
# takes some of another's.
WORKERS ?= $(shell echo $$(( $$(nproc) * 2 )))
PARALLEL := -n $(WORKERS) --dist worksteal
STAMP := $(VENV)/.installed
# tunerd alone, without the tools of developers, which take several times as long to install.
ALONE := $(VENV)/.installed-alone
# The tests start hundreds of processes. Without bytecode each of them would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test quick portable coverage lint types check thorough chaos chaos-fleet gather-rotation full-disk stops reloads fresh poison bench readme docs
.PHONY: screenshots site lock image imageload containers release deb debian clean

define make_venv
@echo "Installing into $(VENV), once; this may take some minutes"
@$(PYTHON) -c 'import sys; sys.exit("tunerd needs Python 3.11 or newer; say make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
@$(PYTHON) -m venv $(VENV)
endef

$(STAMP): pyproject.toml requirements-dev.txt
	$(make_venv)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -e '.[cloud,postgres]'
	@touch $@

$(ALONE): pyproject.toml
	$(make_venv)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

install: $(STAMP)

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(ALONE))
	$(BIN)/tunerd demo

test: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/container --ignore=tests/debian

# What is built and installed: the image (by buildah, on a base made of this machine's Python) that podman runs, `make release`, and the
# Debian package in a copy of this machine that boots. Needs root, buildah, podman, runc, systemd-nspawn and a package index.
containers: $(STAMP)
	$(BIN)/python -m pytest tests/container tests/debian

# All tests except the end-to-end tests, which start daemons.
quick: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/e2e --ignore=tests/container --ignore=tests/debian

# The tests whose result may depend on the version of Python: the loop, sockets, threads, files, signals, SQLite, the commands, a
# real daemon; and every preset over its documents. CI runs them on the newest Python. Those with PostgreSQL run on one version only,
# because they take minutes and CI has 25.
portable: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) -k 'not postgresql and not fleet' tests/admin tests/cli tests/delivery tests/intake tests/ledger tests/ops tests/sandbox \
		tests/mapping/presets tests/mapping/presets2 tests/test_lifecycle.py tests/test_maintenance.py tests/e2e/test_run.py tests/e2e/test_stop.py

# Line and branch coverage of `make quick`; it fails under 92 %. The end-to-end tests are not counted, because their code runs in
# separate processes (lifecycle.py, post_recovery.py and maintenance.py have few other tests).
coverage: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/e2e --ignore=tests/container --ignore=tests/debian --cov --cov-report=term --cov-fail-under=92

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types containers test

# Ten times as many examples for every property (tests/examples.py), 20,000 random transcripts through the timeline, 4,000 random
# schedules of rotations and of gathered logs, 2,000 of whole files, 10,000 of matching and of calls with audio, and 68,000 calls after which memory has to have levelled off.
thorough: $(STAMP)
	TUNERD_SLOW=1 $(BIN)/python -m pytest $(PARALLEL) --timeout=1800 --ignore=tests/e2e --ignore=tests/debian
	TUNERD_EXAMPLES=2000 $(BIN)/python -m pytest --timeout=1800 tests/intake/test_file_model.py
	TUNERD_SLOW=1 $(BIN)/python -m pytest tests/e2e/test_memory.py

# KILLS=500: SIGKILL under load, checked by an oracle in its own process (TUNERD_SEED repeats a run); then the reloads below (TIMES=1000).
chaos: $(STAMP)
	TUNERD_KILLS=$(or $(KILLS),100) $(BIN)/python -m pytest -s tests/e2e/test_chaos.py
	$(MAKE) reloads

# KILLS=1000: the same with three instances on one PostgreSQL. Then for SECONDS=300 four instances, while the server crashes, the network
# breaks, instances are killed, and one is stopped for a minute (TUNERD_SEED repeats a run).
chaos-fleet: $(STAMP)
	TUNERD_FLEET_KILLS=$(or $(KILLS),1000) TUNERD_FLEET_SECONDS=$(or $(SECONDS),300) $(BIN)/python -m pytest -s tests/e2e/test_fleet_chaos.py

# KILLS=100: SIGKILL while the logs of gathered calls are rotated every 0.1 s; every body has to be as it was written (TUNERD_SEED repeats a run).
gather-rotation: $(STAMP)
	TUNERD_ROTATION_KILLS=$(or $(KILLS),100) $(BIN)/python -m pytest -s tests/e2e/test_gather_rotation.py

# FILLINGS=10: the ledger's disk is filled under load and freed again; afterwards every worker has to work. Needs the right to mount.
full-disk: $(STAMP)
	TUNERD_FILLINGS=$(or $(FILLINGS),10) $(BIN)/python -m pytest -s tests/e2e/test_full_disk.py

# RUNS=100: SIGTERM at random moments while Tuner hangs; each run has to end within its drain.
stops: $(STAMP)
	TUNERD_STOPS=$(or $(RUNS),100) $(BIN)/python -m pytest -s tests/e2e/test_stop.py -k hanging

# TIMES=1000: SIGHUP every 0.1 s under load, a third of the configurations bad.
reloads: $(STAMP)
	TUNERD_RELOADS=$(or $(TIMES),1000) $(BIN)/python -m pytest -s tests/e2e/test_reload.py -k under_load

# fresh: how long new calls wait while a backlog of 10,000 is sent. poison: whether calls that always fail delay the others.
fresh poison: $(STAMP)
	$(BIN)/python -m benchmarks.$@

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Writes the demo's output into README.
readme: $(STAMP)
	TUNERD_WRITE_README=1 $(BIN)/python -m pytest -q tests/test_readme.py -k output

# Writes the generated pages (docs/functions.md, docs/commands.md, docs/tunerd.1, docs/presets/, docs/decisions/README.md), the PrometheusRule of k8s/, and the output
# shown in docs/troubleshooting.md.
docs: $(STAMP)
	$(BIN)/python -m tests.docs.generate
	$(BIN)/python -m tests.k8s.prometheus_rule
	TUNERD_WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/docs/test_shown.py

# Pictures of the status page in every state, into build/screenshots; the three that docs/status-page.md shows go to docs/images.
screenshots: $(STAMP)
	mkdir -p build/screenshots
	TUNERD_SCREENSHOTS=build/screenshots $(BIN)/python -m pytest -q -n 0 tests/page/test_browser.py -k each_state
	cd build/screenshots && cp busy-desktop-light.png broken-desktop-dark.png broken-phone-light.png ../../docs/images/

# The documentation as a site, in build/site; a warning fails.
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The Debian package, in dist/: deb/build explains it.
deb: $(STAMP)
	PYTHON=$(BIN)/python deb/build dist

# The life of that package in a new, minimal Debian 12 (mmdebstrap makes it), and not in a copy of this machine's own. Needs root.
debian: $(STAMP)
	tree=$$(mktemp -d); trap 'rm -rf "$$tree"' EXIT; chmod 755 "$$tree"; \
	mmdebstrap --variant=minbase --dpkgopt=force-unsafe-io --include=systemd,systemd-sysv,dbus,python3 bookworm "$$tree" && \
	TUNERD_DEBIAN_TREE="$$tree" $(BIN)/python -m pytest tests/debian

# Writes requirements.lock (what tunerd and its extras `cloud` and `postgres` need, with hashes; tzdata would only be for Windows) and
# requirements-build.lock (what builds its wheel), with the newest versions.
LOCK := $(BIN)/uv pip compile --quiet --no-config --system-certs --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --upgrade --custom-compile-command "make lock"
lock: $(STAMP)
	env -u PIP_FIND_LINKS $(LOCK) --extra cloud --extra postgres --no-emit-package tzdata -o requirements.lock pyproject.toml
	echo 'hatchling>=1.24' | env -u PIP_FIND_LINKS $(LOCK) -o requirements-build.lock -

# BASE=docker.io/library/python:3.13-slim@sha256:... TAG=registry.example/tunerd:1 BUILDER="podman build"
BUILDER ?= docker build
TAG ?= tunerd:local
image:
	$(BUILDER) $(if $(BASE),--build-arg BASE=$(BASE)) -t $(TAG) \
	  --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' tunerd/__init__.py) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) .

# One test of these, for an hour: the container with 128 MB at 1,000 calls a minute, with PROBES=360 health checks, one each 10 s.
imageload: $(STAMP)
	TUNERD_PROBES=$(or $(PROBES),360) $(BIN)/python -m pytest -s tests/container/test_image.py -k health_checks_under_load

# Wheel, source archive, SBOM (CycloneDX, of exactly what the lock names) and their checksums, in dist/.
UV_OPTIONS := --quiet --no-config --system-certs
release: $(STAMP)
	rm -rf dist build/sbom
	$(BIN)/uv build $(UV_OPTIONS) --build-constraints requirements-build.lock --require-hashes --out-dir dist
	rm -f dist/.gitignore
	$(BIN)/uv venv $(UV_OPTIONS) --python $(BIN)/python build/sbom
	$(BIN)/uv pip install $(UV_OPTIONS) --python build/sbom/bin/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install $(UV_OPTIONS) --python build/sbom/bin/python --no-deps --no-index dist/*.whl
	$(BIN)/cyclonedx-py environment --output-reproducible --of JSON \
	  -o dist/tunerd-$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' tunerd/__init__.py).cdx.json build/sbom/bin/python
	cd dist && sha256sum -- * > SHA256SUMS

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov
