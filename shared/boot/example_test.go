package boot_test

import (
	"fmt"

	"dsvmpools/shared/boot"
	"dsvmpools/shared/pool"
)

// The app writes the document of a pool's nodes, and a job finds each share by a variable.
func ExampleNewDocument() {
	document := boot.NewDocument(pool.Spec{
		Name:   "cpu",
		Setup:  "apt-get install -y jq",
		Shares: []pool.Share{{Account: "acmedata", Name: "data-sets", Path: "/mnt/data", Protocol: pool.ProtocolNFS}},
	})
	fmt.Println(string(document.JSON()))
	for variable, share := range document.Variables() {
		fmt.Println(variable, "is", share.Path)
	}
	// Output:
	// {"v":1,"shares":[{"account":"acmedata","name":"data-sets","path":"/mnt/data","protocol":"nfs"}],"setup":"apt-get install -y jq"}
	// DSVM_SHARE_DATA_SETS is /mnt/data
}
