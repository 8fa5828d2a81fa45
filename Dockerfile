# The image of the parking command. make image writes an equivalent image without Docker.
#
#   docker build --build-arg VERSION=v0.1.0 --build-arg COMMIT=$(git rev-parse HEAD) \
#     --build-arg DATE=$(git log -1 --format=%cI) -t ghcr.io/parking-operator/parking-operator:v0.1.0 .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# Dependencies change less often than the source, so they have their own layer.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev COMMIT=unknown DATE=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT -X main.date=$DATE" -o /parking ./cmd/parking

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=dev COMMIT=unknown DATE=unknown
LABEL org.opencontainers.image.title="parking-operator" \
      org.opencontainers.image.description="Event-driven parking simulations on Kubernetes that account for every event" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/parking-operator/parking-operator" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.created="$DATE"
COPY --from=build /parking /usr/local/bin/parking
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/parking"]
