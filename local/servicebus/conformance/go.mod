// The tests of azservicebus are built from here, for which go.sum has to name
// what they need: go get -t .../azservicebus/...@VERSION, and no go mod tidy,
// which would take it out again.
module dsvmpools/local/servicebus/conformance

go 1.26.0

require dsvmpools v0.0.0

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace dsvmpools => ../../..
