package door

import (
	"net/http"
	"strings"
)

// cookie is what a cookie of the jar is known by: a hub and its JupyterLab give one of the same
// name, each for its own path.
type cookie struct{ name, path string }

// isFor reports whether a cookie goes to a path.
func (c cookie) isFor(path string) bool {
	return path == c.path || strings.HasPrefix(path, strings.TrimSuffix(c.path, "/")+"/")
}

// own are the headers by which JupyterLab, or its hub, takes requests for a path from the door.
func (w *web) own(path string) http.Header {
	h := http.Header{"Referer": {"http://localhost/" + w.entity + "/lab"}}
	w.mu.Lock()
	defer w.mu.Unlock()
	best := map[string]cookie{} // by name, of the longest path
	for c := range w.jar {
		if c.isFor(path) && len(c.path) >= len(best[c.name].path) {
			best[c.name] = c
		}
	}
	var all []string
	for name, c := range best {
		all = append(all, name+"="+w.jar[c])
	}
	if len(all) > 0 {
		h.Set("Cookie", strings.Join(all, "; "))
	}
	if token := w.jar[best["_xsrf"]]; token != "" {
		h.Set("X-XSRFToken", token)
	}
	return h
}

// mostCookies bounds the jar: what answers at the sockets is the user's own program.
const mostCookies = 50

// keepCookies puts JupyterLab's cookies, or its hub's, into the jar.
func (w *web) keepCookies(r *http.Response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range r.Cookies() {
		key := cookie{c.Name, c.Path}
		if c.MaxAge < 0 || c.Value == "" {
			delete(w.jar, key)
		} else if _, isOld := w.jar[key]; (isOld || len(w.jar) < mostCookies) && len(c.Value)+len(c.Path) <= maxTicket*4 {
			w.jar[key] = c.Value
		}
	}
	r.Header.Del("Set-Cookie")
}
