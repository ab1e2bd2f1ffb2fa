.DEFAULT_GOAL := help
# Python 3.13, which Lambda runs, is used if it is installed, even if only pyenv has it.
FIND_PYTHON = for each in python3.13 "$$HOME"/.pyenv/versions/3.13.*/bin/python python3; do \
	"$$each" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done
PYTHON = $(or $(shell $(FIND_PYTHON)),$(error Install Python 3.11 or newer with its venv module, as python3))
OTHER_PYTHON := $(if $(filter-out python3,$(shell $(FIND_PYTHON))),$(shell python3 -c \
	'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] != (3, 13))' 2>/dev/null && echo python3))
UV := .venv-uv/bin/uv
unexport PYTHONDONTWRITEBYTECODE # with it, hundreds of processes would each compile what they import

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s  %s\n", $$1, $$2}' Makefile

run: .venv-local/ready ## see the bundle work on this machine, then try it by hand (ONCE=1: only the demonstration)
	@exec .venv-local/bin/python -m infra.local.run

test: ## everything that must hold: code, templates, build, behaviour
	@echo "Environments and linters, then the tests: four to five minutes on two cores."
	@$(MAKE) --no-print-directory --jobs 3 --output-sync code templates policies .venv-local/ready $(OTHER_PYTHON:%=.venv-system/ready)
	@$(MAKE) --no-print-directory --jobs 2 tested $(OTHER_PYTHON:%=tested-on-%)
tested: ; MAKEFLAGS= .venv/bin/python -m pytest --numprocesses 4 --cov
tested-on-python3: # what ships, in parallel with the tests above, so it prints only when it has ended
	@said="$$(.venv-system/bin/python -m pytest -p no:cacheprovider $$(grep -lE '(from|import) sms_cancel' tests/test_*.py))" && \
	    echo "On python3 too: $$(echo "$$said" | tail -1)" || { echo "$$said"; exit 1; }

code: .venv/ready
	.venv/bin/ruff check --quiet && .venv/bin/ruff format --check --quiet && .venv/bin/mypy --no-error-summary
	.venv/bin/zizmor --offline --quiet .github
templates: .venv-sam/ready # as `sam validate --lint`, but for more regions
	.venv-sam/bin/cfn-lint --regions eu-west-3 us-gov-west-1 cn-north-1 eusc-de-east-1 -- template.yaml infra/[mp]*.yaml
policies: .venv-checkov/ready # checkov exits with 0 even if it checked nothing; it has no checks for monitoring.yaml
	@found="$$(.venv-checkov/bin/checkov --framework cloudformation --skip-download --compact --file template.yaml infra/pipeline.yaml)"; \
	for file in template.yaml infra/pipeline.yaml; do echo "$$found" | grep -A 1 'PASSED for' | grep -q \
	    "File: /$$file:" || { echo "checkov checked nothing in $$file: $$found"; exit 1; }; done; \
	echo "$$found" | grep 'Passed checks: [1-9].* Failed checks: 0,' || { echo "$$found"; exit 1; }

faults bench: export PYTHONPATH = functions:tests:.
faults: .venv/measure .venv-local/ready ## break what can be broken, and print the figure behind each claim (Linux)
	@for each in wire queue_torture fuzz mutation soak; do .venv/bin/python -m tests.faults.$$each || exit 1; done

bench: .venv/measure .venv-local/ready ## measure speed and cost (PART=cold: only one part; 15 minutes, Linux, root)
	.venv/bin/python -m tests.bench $(PART)

deploy: .venv-sam/ready ## build and deploy into the AWS account of your credentials (ENVIRONMENT=production)
	@.venv-sam/bin/python -m infra.deploy

try-account: .venv-sam/ready ## try what only a real account can settle, in a stack of its own (ARGUMENTS="Name=value")
	@.venv-sam/bin/python -m infra.try_account $(ARGUMENTS)

commands: .venv-local/ready ## install recall and redrive
	@ls .venv-local/bin/recall .venv-local/bin/redrive

lock: $(UV) ## pin what pyproject.toml asks for: uv.lock and both requirements.txt (UPGRADE=1: newer versions)
	$(UV) lock --quiet --python "$(PYTHON)" $(if $(UPGRADE),--upgrade)
	$(UV) export --quiet --frozen --only-group functions --no-annotate --no-header -o functions/requirements.txt
	$(UV) export --quiet --frozen --no-emit-project --group code --group uv --no-hashes --no-annotate -o .venv-uv/pins.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-annotate \
	    --no-emit-index-url --no-header -o requirements.txt .venv-uv/pins.txt

sbom: $(UV) ## list what ships, as CycloneDX, in build/sms-cancel.cdx.json
	@mkdir -p build && $(UV) export -q --frozen --only-group functions --format cyclonedx1.5 -o build/sms-cancel.cdx.json

clean: ## remove everything that these commands made
	rm -rf .aws-sam build .venv .venv-* .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): requirements.txt # which has uv's version and hashes
	@echo "Installing uv, then one environment after another: seconds each" && "$(PYTHON)" -m venv --clear .venv-uv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > .venv-uv/uv.txt
	@.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv-uv/uv.txt && touch $@

.venv/measure: .venv/ready
	@UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --quiet --frozen --group measure && touch $@
.venv/ready: GROUP = code --python "$(PYTHON)"
.venv-system/ready: GROUP = test --python python3
.venv/ready $(foreach each,system local sam checkov,.venv-$(each)/ready): uv.lock pyproject.toml $(UV)
	@echo "Installing $(@D)" && UV_PROJECT_ENVIRONMENT=$(@D) $(UV) sync --quiet --frozen --no-python-downloads \
	    --group $(or $(GROUP),$(@D:.venv-%=%) --python "$(PYTHON)") \
	    && find $(@D) -path '*/awscli/examples/*' -delete -o -type f -path '*/awscli/botocore/data/*.json' -exec gzip -1f {} + && touch $@ # 130 MB
.PHONY: help run test tested tested-on-python3 code templates policies faults bench deploy try-account commands lock sbom clean
