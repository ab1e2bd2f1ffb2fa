# make run   the bundle on this machine: a demonstration, then for trying by hand (ONCE=1 ends it)
# make test  everything that must hold: lint, types, template, build, tests
# make recall  the command that calls a campaign off, as .venv-local/bin/recall
# make picture  the dashboard's picture in the README, anew from its definition
# make faults  the reliability section of the README, each figure by its command; about an hour, Linux
# make bench  the speed and cost sections of the README, and their pictures; a quarter of an hour, Linux as root
# make deploy  the bundle into the AWS account whose credentials are set (ENVIRONMENT=production)
# make lock  uv.lock from pyproject.toml, and requirements.txt from it (UPGRADE=1: with newer versions)
# make sbom  what ships, as CycloneDX, in build/sms-cancel.cdx.json

# Lambda runs Python 3.13: it is used where it is, also where only pyenv knows of it.
PYTHON := $(shell for python in python3.13 "$$HOME"/.pyenv/versions/3.13.*/bin/python python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; \
	done)
ifeq ($(PYTHON),)
$(error Python 3.11 or newer is needed, as python3.13 or python3)
endif

# The Python that is simply there, where it is another one: what ships must work with it too.
SYSTEM_PYTHON := $(shell python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	test "$$(python3 -c 'import sys; print(sys.version_info[:2])')" != \
	"$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" && echo python3)

UV := .venv-uv/bin/uv
# An environment of its own for each group of pyproject.toml that contradicts the others.
SYNC := $(UV) sync --quiet --frozen --no-python-downloads
PYTEST := -m pytest --numprocesses 2 --dist loadfile

# Its exit code alone would also be 0 if it had judged nothing. Of what monitoring.yaml holds (alarms, a
# dashboard) it judges nothing yet, so that is judged with template.yaml.
CHECKOV := .venv-checkov/bin/checkov --framework cloudformation --skip-download --quiet --compact

run: .venv-local/ready
	@exec .venv-local/bin/python -m infra.local.run

recall: .venv-local/ready
	@echo "It is .venv-local/bin/recall; see the README, Recall a campaign"

test: .venv/ready .venv-local/ready .venv-sam/ready .venv-checkov/ready $(if $(SYSTEM_PYTHON),.venv-system/ready)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/zizmor --offline --quiet .github
	.venv-sam/bin/cfn-lint template.yaml infra/monitoring.yaml infra/pipeline.yaml
	SAM_CLI_TELEMETRY=0 .venv-sam/bin/sam validate --lint --region eu-west-3
	@for files in "template.yaml infra/monitoring.yaml" infra/pipeline.yaml; do \
	    found="$$($(CHECKOV) --file $$files)"; echo "$$found"; \
	    echo "$$found" | grep -q "Passed checks: [1-9].* Failed checks: 0," || exit 1; \
	    done
	.venv/bin/python $(PYTEST) --cov
ifneq ($(SYSTEM_PYTHON),)
	@echo "The fast tests again, with the Python that is simply there:"
	.venv-system/bin/python $(PYTEST) --ignore tests/end_to_end
endif

faults: export PYTHONPATH := functions:tests:.
faults: .venv/ready .venv-local/ready
	UV_PROJECT_ENVIRONMENT=.venv $(SYNC) --group measure
	.venv/bin/python -m tests.faults.wire
	.venv/bin/python -m tests.faults.queue_torture
	.venv/bin/python -m tests.faults.fuzz
	.venv/bin/python -m tests.faults.mutation
	.venv/bin/python -m tests.faults.soak

bench: export PYTHONPATH := functions:tests:.
bench: .venv/ready .venv-local/ready .venv-picture/ready
	.venv/bin/python -m tests.bench; ended=$$?; .venv-picture/bin/python -m tests.bench.plot && exit $$ended

# A section of samconfig.toml, and options on top of it: the release workflow has nobody to ask.
ENVIRONMENT := default
SAM_DEPLOY :=

deploy: export SAM_CLI_TELEMETRY := 0
deploy: .venv-sam/ready
	PYTHON=$(CURDIR)/.venv-sam/bin/python .venv-sam/bin/sam build
	.venv-sam/bin/sam deploy --config-env $(ENVIRONMENT) $(SAM_DEPLOY)
	@echo "Deployed. Until its secret has a value, every cancel is key_unavailable: put SMS Partner's"
	@echo "API key into a file, and the file into the secret (the output ApiKeySecretArn):"
	@echo "  aws secretsmanager put-secret-value --secret-id <ApiKeySecretArn> --secret-string file://key.txt"

# uv.lock, and the two files for those who do not use uv. Without its extras a pin holds only until
# a newer version is published: pip would look for the extra there.
lock: $(UV)
	$(UV) lock --quiet --python $(PYTHON) $(if $(UPGRADE),--upgrade)
	$(UV) export --quiet --frozen --no-emit-project --only-group functions --no-annotate --no-header \
	    --output-file functions/requirements.txt
	$(UV) export --quiet --frozen --no-emit-project --group test --group uv --no-hashes --no-annotate --no-header \
	    --output-file requirements.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-annotate \
	    --no-emit-index-url --no-header --output-file build/requirements.txt requirements.txt
	mv build/requirements.txt requirements.txt

sbom: $(UV)
	mkdir -p build
	$(UV) export --quiet --frozen --only-group functions --format cyclonedx1.5 --output-file build/sms-cancel.cdx.json

picture: .venv-picture/ready
	.venv-picture/bin/python -m infra.dashboard.draw

# The version of uv, with its hashes, is in requirements.txt too.
$(UV): requirements.txt
	$(PYTHON) -m venv --clear .venv-uv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > .venv-uv/requirements.txt
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv-uv/requirements.txt
	touch $@

.venv/ready: uv.lock pyproject.toml $(UV)
	UV_PROJECT_ENVIRONMENT=.venv $(SYNC) --python $(PYTHON) --group test
	touch $@

.venv-system/ready: uv.lock pyproject.toml $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-system $(SYNC) --python $(SYSTEM_PYTHON) --group test
	touch $@

.venv-local/ready: uv.lock pyproject.toml $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-local $(SYNC) --python $(PYTHON) --group local
	touch $@

.venv-sam/ready .venv-checkov/ready: .venv-%/ready: uv.lock pyproject.toml $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-$* $(SYNC) --python $(PYTHON) --only-group $*
	touch $@

.venv-picture/ready: uv.lock pyproject.toml $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-picture $(SYNC) --python $(PYTHON) --group measure
	touch $@

clean:
	rm -rf .aws-sam build .venv .venv-checkov .venv-local .venv-picture .venv-sam .venv-system .venv-uv

.PHONY: run recall test picture faults bench deploy lock sbom clean
