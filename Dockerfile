# exprmetric on a CPU.
#   docker build -t exprmetric .
#   docker run --rm -v "$PWD/swaps:/data/swaps:ro" -v "$PWD/result:/data/result" exprmetric evaluate swaps/ --out result/
FROM python:3.12-slim

# OpenCV's wheel needs these two libraries, which the slim image lacks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

COPY . /tmp/exprmetric
RUN pip install --no-cache-dir /tmp/exprmetric && rm -rf /tmp/exprmetric

# Nothing runs as root. Pulled weights and vectors go to /data/cache; mount a folder there to keep them.
RUN useradd --uid 1000 --create-home exprmetric && mkdir /data && chown exprmetric /data
USER exprmetric
WORKDIR /data
ENV EXPRMETRIC_CACHE=/data/cache

ENTRYPOINT ["exprmetric"]
CMD ["--help"]
