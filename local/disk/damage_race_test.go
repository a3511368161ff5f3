//go:build race

package disk_test

// damages is how many files are damaged. Each is opened by a process of its own, which starts
// many times slower under the race detector.
const damages = 40
