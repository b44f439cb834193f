# Recipes for people who work on mskt; `just --list` shows them.

# the main job on the built-in phantom
demo:
    sh scripts/with-env.sh mskt run --segmenter unet_bayes --uncertainty mcdropout --out mskt-out

# all tests
test *ARGS:
    sh scripts/with-env.sh pytest -n 2 {{ARGS}}

# lint, format, types, import contracts
lint:
    sh scripts/with-env.sh ruff check .
    sh scripts/with-env.sh ruff format --check .
    sh scripts/with-env.sh mypy
    sh scripts/with-env.sh lint-imports

# pin all versions and hashes again
lock:
    uv pip compile pyproject.toml --group dev --constraint lock-constraints.txt --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url -q -o requirements.lock

# train the shipped weights (hours on a CPU; resumable)
train *ARGS:
    sh scripts/with-env.sh python scripts/train_unet_bayes.py {{ARGS}}
