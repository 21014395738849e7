FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_CFLAGS="-Wno-deprecated-declarations -DHAVE_FDATASYNC=1" go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /comfyfleet ./app

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data comfyfleet && install -d -o comfyfleet -g comfyfleet -m 0700 /data
COPY --from=build /comfyfleet /usr/local/bin/comfyfleet
USER comfyfleet
ENV COMFYFLEET_DATA_DIR=/data COMFYFLEET_LISTEN=0.0.0.0:8080
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["comfyfleet"]
CMD ["serve"]
