//go:build !race

package disk_test

const damages = 500
