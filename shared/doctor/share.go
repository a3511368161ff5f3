package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"dsvmpools/shared/wire"
)

// mendShare says what to do about a share that is not there.
const mendShare = "look at the app's mount under Settings > Configuration > Path mappings: its account, " +
	"its share and the key that it names; " + deployAgain

// shareIsThere checks that the share is mounted and can be written and read. It waits
// for a diagnosis that does the same; one that hangs until the time is over is answer enough.
func (d *Doctor) shareIsThere(ctx context.Context) wire.Check {
	const name = "share"
	select {
	case d.share <- struct{}{}:
		defer func() { <-d.share }()
	case <-ctx.Done():
		return wire.Check{Check: name, State: wire.CheckFailed,
			Detail: "the share does not answer: an earlier check still waits for it", Mend: mendShare}
	}
	if d.Mounted && !isMounted(d.Share) {
		return wire.Check{Check: name, State: wire.CheckFailed,
			Detail: fmt.Sprintf("nothing is mounted at %s, so that logs would be lost with the instance of the app", d.Share), Mend: mendShare}
	}
	if err := testFile(d.Share); err != nil {
		return wire.Check{Check: name, State: wire.CheckFailed, Detail: err.Error(), Mend: mendShare}
	}
	return good(name, "a file was written, read and deleted below %s", d.Share)
}

// testFile writes, reads and deletes a file.
func testFile(dir string) (err error) {
	text := []byte(rand.Text())
	file := filepath.Join(dir, ".dsvm-doctor-"+string(text))
	defer func() {
		if removed := os.Remove(file); err == nil {
			err = removed
		}
	}()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	read, err := os.ReadFile(file)
	if err == nil && !bytes.Equal(read, text) {
		err = fmt.Errorf("%s does not hold what was written to it", dir)
	}
	return err
}
