# Everything sets itself up: on a fresh Debian 12, as root, `make run` or `make test`.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help run test test-fast test-browser pictures
.PHONY: setup setup-lab setup-test setup-lint setup-browser bpf wheel deb guest matrix mutants soak soak-storm fuzz bench lint clean

KERNEL ?= 6.1
SCRIPT ?=
QEMU_ARGS ?=
MEMORY ?= 2G
CPUS ?= 1
GUESTS ?= 2
INPUTS ?= 10000000
TARGETS ?=
KERNELS ?=

# As far as Debian serves headers: one of each layout but B.
MUTANT_KERNELS ?= 5.10 6.1.0-50-amd64 6.1 6.12.113+deb12-amd64 7.3

PYTHON := .venv/bin/python
LINT := .venv-lint/bin
CACHE := build/kernels
PIP := pip --disable-pip-version-check --quiet install

RUN_PACKAGES := python3-venv python3-bpfcc
LAB_PACKAGES := qemu-system-x86 kmod udev iproute2 zstd busybox-static gcc libc6-dev make libelf1 \
	driverctl bpftool bpftrace util-linux e2fsprogs curl openssl prometheus prometheus-alertmanager \
	prometheus-node-exporter victoria-metrics systemd xz-utils bzip2 lz4
DEB_PACKAGES := build-essential debhelper dh-python fakeroot lintian pybuild-plugin-pyproject \
	python3-setuptools python3-wheel
# What the package depends on, and what shows its manual pages and completions.
TEST_PACKAGES := python3-bcrypt python3-rich python3-yaml man-db bash-completion fish zsh
# What packages are made of.
SOURCES := CHANGELOG.md LICENSE README.md bpf dashboards debian docs observer pyproject.toml systemd

LINT_PACKAGES := clang-format shellcheck systemd
# Where node comes from elsewhere with an npm of its own, Debian's npm would take its place.
BROWSER_PACKAGES := chromium fonts-dejavu-core $(if $(shell command -v npm),,nodejs npm)

help:
	@echo "make run      observe this machine, or a virtual one, until Ctrl-C"
	@echo "make test     all tests, those on real kernels included"
	@echo "make test-browser  the dashboards and the landing page as Chromium draws them"
	@echo "make pictures the same, and the pictures under docs/ anew"
	@echo "make setup    what pci-observer needs to run, in .venv"
	@echo "make guest    KERNEL=6.1 SCRIPT=file: run a script under a Debian kernel"
	@echo "make matrix   the live tests on every kernel layout; or on KERNELS=\"...\""
	@echo "make mutants  KERNELS=\"...\": kernels that are made to answer wrongly"
	@echo "make soak     more of what is random, for an hour or so"
	@echo "make wheel    a Python package, in build/wheel"
	@echo "make deb      a Debian package, in build/deb"
	@echo "make soak-storm  binds and unbinds for 20 minutes: does memory stay flat?"
	@echo "make fuzz     INPUTS=10000000: inputs that nobody thought of, for an hour or so"
	@echo "make bench    the benchmarks, as a table and in build/bench.json"
	@echo "make bpf      the programs that are shipped, compiled anew"
	@echo "make lint     formatters, linters, types, layers"

run: setup
	@bash tests/lab/run.sh

# Two guests at once: each has one virtual CPU, and CI two real ones.
test: setup-test $(CACHE)/.fetched
	$(PYTHON) -m pytest -m "not guest and not browser" $(PYTEST)
	$(PYTHON) -m pytest -m guest -n $(GUESTS) --dist loadfile --max-worker-restart 0 $(PYTEST)

# Without guests and servers: what can be tested in two minutes.
test-fast: setup-test
	$(PYTHON) -m pytest -m "not guest and not servers and not browser" $(PYTEST)

test-browser: setup-browser
	$(PYTHON) -m pytest -m browser tests/test_browser.py $(PYTEST)

pictures: setup-browser
	UPDATE_PICTURES=1 $(PYTHON) -m pytest -m browser tests/test_browser.py $(PYTEST)

# The kernels are those of tests/lab/matrix.txt, or KERNELS.
matrix: setup-lab
	@$(PYTHON) tests/lab/matrix.py $(KERNELS)

# Kernels whose answers are wrong on purpose.
mutants: KERNELS = $(MUTANT_KERNELS)
mutants: setup-lab
	PCI_OBSERVER_KERNELS="$(KERNELS)" $(PYTHON) -m pytest tests/test_mutants.py $(PYTEST)

# What takes long: more random sequences of writes on real kernels.
soak: setup-lab $(CACHE)/.fetched
	PCI_OBSERVER_SEQUENCES=2000 $(PYTHON) -m pytest tests/test_sequences.py $(PYTEST)

# Whether memory stays flat: the slope is printed.
soak-storm: setup-lab $(CACHE)/.fetched
	PCI_OBSERVER_STORM=1200 $(PYTHON) -m pytest -s tests/test_faults.py -k storm $(PYTEST)

# Goes on from the corpus that the last run left in build/fuzz.
fuzz: setup-lab
	PYTHONPATH=.:tests $(PYTHON) -m fuzz.run --inputs $(INPUTS) $(TARGETS)

guest: setup-lab
	@test -n "$(SCRIPT)" || { echo "make guest: SCRIPT=<file> is missing" >&2; exit 2; }
	@$(PYTHON) tests/lab/guest.py "$(KERNEL)" "$(SCRIPT)" --memory $(MEMORY) --cpus $(CPUS) -- $(QEMU_ARGS)

setup: build/.stamp-packages-run build/.stamp-venv

setup-lab: setup build/.stamp-packages-lab build/.stamp-test build/.stamp-fuzz

# What tests of packages build and install from, so that they need no network.
setup-test: setup-lab build/.stamp-packages-test build/.stamp-packages-deb build/.stamp-vendor \
	build/.stamp-wheels

setup-lint: setup-lab build/.stamp-packages-lint build/.stamp-lint

setup-browser: setup-lab build/.stamp-packages-browser build/.stamp-npm

# Kernels before the tests, so that the download shows and no test waits for it; one
# with what the toy driver is built with.
$(CACHE)/.fetched: tests/lab/kernels.py | setup-lab
	$(PYTHON) tests/lab/kernels.py $(CACHE) get 5.10 6.1 6.12.90 7.3
	$(PYTHON) tests/lab/kernels.py $(CACHE) headers 6.1
	@touch $@

build/.stamp-packages-run: PACKAGES = $(RUN_PACKAGES)
build/.stamp-packages-lab: PACKAGES = $(LAB_PACKAGES)
build/.stamp-packages-deb: PACKAGES = $(DEB_PACKAGES)
build/.stamp-packages-test: PACKAGES = $(TEST_PACKAGES)
build/.stamp-packages-lint: PACKAGES = $(LINT_PACKAGES)
build/.stamp-packages-browser: PACKAGES = $(BROWSER_PACKAGES)
build/.stamp-packages-%: Makefile
	@mkdir -p build
	@bash tests/lab/packages.sh $(PACKAGES)
	@touch $@

# Debian's own Python, since bcc is a package of Debian's.
build/.stamp-venv: requirements.txt pyproject.toml build/.stamp-packages-run
	@echo "setting up .venv"
	@/usr/bin/python3 -m venv --system-site-packages .venv
	@.venv/bin/$(PIP) -r requirements.txt
	@.venv/bin/$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

build/.stamp-test: requirements-test.txt build/.stamp-venv
	@echo "setting up .venv for tests"
	@.venv/bin/$(PIP) -r requirements-test.txt
	@touch $@

build/.stamp-fuzz: requirements-fuzz.txt build/.stamp-test
	@echo "setting up .venv for fuzzing"
	@.venv/bin/$(PIP) -r requirements-fuzz.txt
	@touch $@

build/.stamp-bench: requirements-bench.txt build/.stamp-test
	@echo "setting up .venv for benchmarks"
	@.venv/bin/$(PIP) -r requirements-bench.txt
	@touch $@

build/.stamp-lint: requirements-lint.txt build/.stamp-packages-run
	@echo "setting up .venv-lint"
	@/usr/bin/python3 -m venv .venv-lint
	@$(LINT)/$(PIP) -r requirements-lint.txt
	@touch $@

# Debian's tools build without a network: what Debian lacks is fetched before.
build/.stamp-vendor: requirements-deb.txt build/.stamp-venv
	@rm -rf build/vendor
	@.venv/bin/$(PIP) --require-hashes --no-deps --no-compile --target build/vendor \
		-r requirements-deb.txt
	@touch $@

build/.stamp-wheels: requirements.txt build/.stamp-venv
	@rm -rf build/wheels
	@.venv/bin/pip --disable-pip-version-check --quiet download --no-deps --dest build/wheels \
		-r requirements.txt
	@touch $@

build/.stamp-npm: tests/browser/package-lock.json build/.stamp-packages-browser
	@echo "setting up tests/browser"
	@cd tests/browser && npm ci --no-progress --loglevel=error
	@touch $@

# What the package brings along for kernels: the same sources give the same bytes.
bpf: setup
	$(PYTHON) bpf/generate.py

# A copy each time: what an earlier build left behind must get into no package.
define copy_sources
rm -rf $(1)
mkdir -p $(1)/source
tar -c --exclude=__pycache__ --exclude='*.egg-info' $(SOURCES) | tar -x -C $(1)/source
endef

wheel: setup
	$(call copy_sources,build/wheel)
	@.venv/bin/pip --disable-pip-version-check --quiet wheel --no-deps --no-build-isolation \
		--wheel-dir build/wheel build/wheel/source
	@ls build/wheel/*.whl

# With Debian's own Python, whatever else is on PATH.
deb: build/.stamp-packages-deb build/.stamp-vendor
	$(call copy_sources,build/deb)
	cp -r build/vendor build/deb/source/debian/vendor
	cd build/deb/source && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage --build=binary --no-sign
	lintian --allow-root --fail-on error,warning build/deb/*.changes
	@ls build/deb/*.deb

bench: setup-lab build/.stamp-bench $(CACHE)/.fetched
	PYTHONPATH=tests $(PYTHON) tests/bench/table.py build/bench.json

lint: setup-lint
	$(LINT)/ruff format --check .
	$(LINT)/ruff check .
	$(LINT)/mypy --python-executable $(PYTHON)
	$(LINT)/lint-imports
	clang-format --dry-run --Werror bpf/*.c bpf/*.h $$(find bpf/stub -name '*.h')
	shellcheck .ci/run tests/lab/*.sh debian/*.postinst debian/*.postrm
	$(LINT)/codespell --skip './build,./.venv*,./.git,*/node_modules,*package-lock.json' .
	promtool check rules dashboards/prometheus_rules.yaml dashboards/prometheus_alerts.yaml
	@mkdir -p build/lint
	sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' systemd/pci-observer.service > build/lint/pci-observer.service
	cp systemd/pci-observer.socket build/lint/
	systemd-analyze verify --man=no build/lint/pci-observer.service

clean:
	rm -rf build/.stamp-* build/lab build/wheel build/wheels build/deb build/vendor .venv .venv-lint tests/browser/node_modules
