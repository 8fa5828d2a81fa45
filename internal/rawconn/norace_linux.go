//go:build !race && (amd64 || arm64)

package rawconn

func sending() {}

func received(uintptr) {}
