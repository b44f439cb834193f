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

# train the weights that come with mskt, one network after the other (hours on a CPU; call it again to go on)
train *ARGS:
    sh scripts/with-env.sh mskt train --part body --data 'synthesis:../shared/anatomy?leave_out=vh_female&p_arms=0.9' \
        --out runs/unet_bayes --resume {{ARGS}}
    sh scripts/with-env.sh mskt train --part muscles --data 'synthesis:../shared/anatomy?leave_out=vh_female&p_mixed=0.15' \
        --card scripts/shipped_weights.json --out runs/unet_bayes --resume {{ARGS}}
