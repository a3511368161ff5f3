//go:build unix

package compute

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// consolePath is the path of the serial logs. In the cloud they are blobs, whose addresses
// carry a right that ends after a time.
const consolePath = "/console/"

// consoleLife is how long an address is good for, unless the call says so.
const consoleLife = 120 * time.Minute

// logOf is the file with the output of an instance, which plays its serial console.
func (s *Server) logOf(i *instance) string { return filepath.Join(s.cfg.LogDir, i.Name+".log") }

// bootDiagnostics answers where the serial log of an instance is.
func (s *Server) bootDiagnostics(w http.ResponseWriter, c *call) error {
	life := consoleLife
	if text := c.URL.Query().Get("sasUriExpirationTimeInMinutes"); text != "" {
		minutes, err := strconv.Atoi(text)
		if err != nil || minutes < 1 || minutes > 1440 {
			return refuse(http.StatusBadRequest, "InvalidParameter", "Parameter 'sasUriExpirationTimeInMinutes': it must be from 1 to 1440.")
		}
		life = time.Duration(minutes) * time.Minute
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.findSet(c.set)
	if err != nil {
		return err
	}
	for _, i := range st.Instances {
		if i.ID == c.PathValue("instance") {
			until := strconv.FormatInt(time.Now().Add(life).Unix(), 10)
			address := s.baseURL(c.Request) + consolePath + url.PathEscape(i.Name) + "?" +
				url.Values{"se": {until}, "sig": {s.consoleSignature(i.Name, until)}}.Encode()
			return json.NewEncoder(w).Encode(map[string]string{"serialConsoleLogBlobUri": address})
		}
	}
	return refuse(http.StatusNotFound, "ResourceNotFound", "The instance %s of %s was not found.", c.PathValue("instance"), c.set)
}

// consoleSignature is the right to read the log of an instance until a time.
func (s *Server) consoleSignature(name, until string) string {
	mac := hmac.New(sha256.New, []byte(s.cfg.Token))
	mac.Write([]byte("console of " + name + " until " + until))
	return hex.EncodeToString(mac.Sum(nil))
}

// console answers with the serial log at an address that bootDiagnostics gave out.
func (s *Server) console(w http.ResponseWriter, r *http.Request, name string) error {
	q := r.URL.Query()
	until, err := strconv.ParseInt(q.Get("se"), 10, 64)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return refuse(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")
	case err != nil || !isEqualSecret(q.Get("sig"), s.consoleSignature(name, q.Get("se"))) || time.Now().Unix() > until:
		return refuse(http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request.")
	}
	s.mu.Lock()
	i, err := s.findInstance(name)
	s.mu.Unlock()
	if err != nil {
		return refuse(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
	}
	f, err := os.Open(s.logOf(i))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "text/plain")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// splitConsolePath splits the path of a request for a serial log.
func splitConsolePath(path string) (name string, ok bool) {
	return strings.CutPrefix(path, consolePath)
}
