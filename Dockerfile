# The commands of advprune in a container: docker build -t advprune .
#   docker run --rm --gpus all -v "$PWD":/work advprune prune pruner=hydra ratio=0.99 -m
FROM python:3.12-slim

# uv checks every package against the hashes of requirements.lock
COPY --from=ghcr.io/astral-sh/uv:0.8.22 /uv /usr/local/bin/uv
WORKDIR /opt/advprune
COPY requirements.lock ./
RUN uv pip install --system --no-cache --require-hashes -r requirements.lock
COPY . .
RUN uv pip install --system --no-cache --no-deps .

# results go into multirun/ of the folder that is mounted here
WORKDIR /work
ENTRYPOINT ["advprune"]
CMD ["--help"]
