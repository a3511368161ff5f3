package boot_test

import (
	"encoding/base64"
	"maps"
	"reflect"
	"strings"
	"testing"

	"dsvmpools/shared/boot"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

func encode(document string) string { return base64.StdEncoding.EncodeToString([]byte(document)) }

func TestDocumentComesBack(t *testing.T) {
	t.Parallel()
	spec := pool.Spec{
		Shares: []pool.Share{{Account: "acmedata", Name: "data", Path: "/mnt/data", Protocol: pool.ProtocolSMB, Auth: pool.AuthKey}},
		Setup:  "apt-get install -y \"lib<x>\" && echo 'done' > /tmp/x\n",
	}
	want := boot.NewDocument(spec)
	got, err := boot.Parse(encode(string(want.JSON())) + "\n")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
	if got.V != boot.Version || len(got.Shares) != 1 || got.Setup != spec.Setup {
		t.Errorf("the document lacks something of the spec: %+v", got)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		userData string
		want     string // part of the error; "" = none
	}{
		"no user data":             {"", ""},
		"a field of a newer app":   {encode(`{"v":1,"colour":"red","shares":[{"account":"a","name":"b","path":"/c","speed":9}]}`), ""},
		"a newer version":          {encode(`{"v":2}`), "version 2"},
		"no version":               {encode(`{}`), "version 0"},
		"no base64":                {`{"v":1}`, "no base64"},
		"no JSON":                  {encode(`v: 1`), "no document"},
		"too long":                 {strings.Repeat("A", 90000), "90000 characters"},
		"a path that is not clean": {encode(`{"v":1,"shares":[{"account":"a","name":"b","path":"/c/../etc"}]}`), "none that can be mounted"},
		"a relative path":          {encode(`{"v":1,"shares":[{"account":"a","name":"b","path":"c"}]}`), "none that can be mounted"},
		"the root":                 {encode(`{"v":1,"shares":[{"account":"a","name":"b","path":"/"}]}`), "none that can be mounted"},
		"a name that leads up":     {encode(`{"v":1,"shares":[{"account":"a","name":"..","path":"/c"}]}`), "none that can be mounted"},
		"an account with a slash":  {encode(`{"v":1,"shares":[{"account":"a/b","name":"b","path":"/c"}]}`), "none that can be mounted"},
		"a setup with NUL":         {encode(`{"v":1,"setup":"a\u0000b"}`), "NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := boot.Parse(c.userData)
			switch {
			case c.want == "" && (err != nil || d.V != boot.Version):
				t.Errorf("got %+v, %v; want a document", d, err)
			case c.want != "" && (fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v; want %q", err, c.want)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	shares := []pool.Share{
		{Account: "acme", Name: "data-sets", Path: "/mnt/sets"},
		{Account: "acme", Name: "models", Path: "/mnt/models"},
		{Account: "other", Name: "models", Path: "/mnt/other"},
	}
	got := map[string]string{}
	for name, s := range (boot.Document{Shares: shares}).Variables() {
		got[name] = s.Path
	}
	want := map[string]string{
		"DSVM_SHARE_DATA_SETS":    "/mnt/sets",
		"DSVM_SHARE_ACME_MODELS":  "/mnt/models",
		"DSVM_SHARE_OTHER_MODELS": "/mnt/other",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}
