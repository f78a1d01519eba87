# Made by `kiln init`: each target is one thin call of kiln. `make help` lists them.

KILN ?= kiln
COMPOSE ?= docker compose -f docker-compose.yml
IMAGE ?= [[ name ]]
# Options of every build, e.g. --host-ca or --build-context NAME=PLACE
BUILD_OPTIONS ?=
# Options of docker-build-all, e.g. --set *.platform=linux/arm64
BAKE_OPTIONS ?=
# Options of docker-benchmark, e.g. --against=docker or --runs=10
BENCH_OPTIONS ?=

BUILD = $(KILN) build $(BUILD_OPTIONS)
# IMAGE with a registry before it: what can be pushed.
PUSHED = $(if $(findstring /,$(IMAGE)),$(IMAGE),$(error say where to push to: make $@ IMAGE=registry.example/$(IMAGE)))

{% if is_whole %}
.DEFAULT_GOAL := help
.PHONY: help
help: docker-help

{% endif %}
.PHONY: docker-help
docker-help: ## Say what there is
	@sed -nE 's/^(docker-[a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(filter %Makefile %docker.mk,$(MAKEFILE_LIST)) | expand -t 34

.PHONY: docker-build
docker-build: ## Build the production image
	$(BUILD) --target production -t $(IMAGE):production .

.PHONY: docker-build-dev
docker-build-dev: ## Build the image for development
	$(BUILD) --target development -t $(IMAGE):development .

.PHONY: docker-build-all
docker-build-all: ## Build all stages in one plan (docker-bake.hcl)
	IMAGE=$(IMAGE) $(KILN) bake -f docker-bake.hcl $(BAKE_OPTIONS) all
{% if testing %}

.PHONY: docker-build-test
docker-build-test: ## Build the image that runs the tests
	$(BUILD) --target testing -t $(IMAGE):testing .
{% endif %}
{% if celery %}

.PHONY: docker-build-worker
docker-build-worker: ## Build the image{% if celery.has_beat %}s{% endif %} of the workers
{% if celery.has_beat %}
	$(BUILD) --target celery-worker --target celery-beat -t $(IMAGE) .
{% else %}
	$(BUILD) --target celery-worker -t $(IMAGE):celery-worker .
{% endif %}
{% endif %}

.PHONY: docker-benchmark
docker-benchmark: ## Measure clean and cached builds, and builds after an edit
	$(KILN) bench $(BUILD_OPTIONS) $(BENCH_OPTIONS) --target production .

.PHONY: docker-cache-info
docker-cache-info: ## Say what the cache holds, and what a prune would free
	$(KILN) cache info

.PHONY: docker-cache-clean
docker-cache-clean: ## Prune the cache as kiln.toml says
	$(KILN) cache prune

.PHONY: docker-up-fast
docker-up-fast: ## Build with kiln, load into Docker, start without building again
	$(BUILD) {% for stage in images %}--target [[ stage ]] {% endfor %}-t $(IMAGE){% if images|length == 1 %}:production{% endif %} --load .
	IMAGE=$(IMAGE) $(COMPOSE) up --detach --no-build

.PHONY: docker-down
docker-down: ## Stop what docker-up-fast started
	$(COMPOSE) down
{% if testing %}

.PHONY: docker-test
docker-test: docker-build-test ## Run the tests in their image
	$(KILN) run {% for name in testing.secrets %}-e [[ name ]]=for-tests-only {% endfor %}$(IMAGE):testing
{% else %}

.PHONY: docker-test
docker-test: ## Run the tests, once there are any
	@echo "There are no tests yet. When there are, \`$(KILN) init --diff\` shows the stage that runs them, and" >&2
	@echo "\`$(KILN) init --force\` writes it. It looks for pytest, unittest and the tests of Django." >&2
	@false

.PHONY: docker-build-test
docker-build-test: docker-test
{% endif %}

.PHONY: docker-production
docker-production: kiln.lock ## Build production from what kiln.lock names, check it, push it (IMAGE=registry/name)
	$(KILN) check .
	$(BUILD) --locked {% for stage in images %}--target [[ stage ]] {% endfor %}-t $(PUSHED){% if images|length == 1 %}:production{% endif %} --push .

kiln.lock:
	$(KILN) lock .

.PHONY: docker-push
docker-push: ## Push the images of production (IMAGE=registry/name)
{% for stage in images %}
	$(KILN) push $(PUSHED):[[ stage ]]
{% endfor %}

.PHONY: docker-performance-report
docker-performance-report: ## Say how builds have done, and whether they keep the budgets
	$(KILN) report

.PHONY: docker-lint
docker-lint: {% if testing and testing.linters %}docker-build-test {% endif %}## Check the Dockerfile{% if testing and testing.linters %}, and the sources in the testing image{% endif %}

	$(KILN) check .
{% if testing %}
{% for linter in testing.linters %}
	$(KILN) run $(IMAGE):testing [[ linter ]]
{% endfor %}
{% endif %}
