package door

import (
	"net/http"
	"net/url"
	"strings"
)

// A session may have a hub, JupyterHub, in front of its JupyterLab. Both are programs of the
// person's, at sockets of theirs. The door knows by the path which of the two is asked, as the
// proxy of a hub does:
//
//	/ENTITY/user/NAME/...  JupyterLab
//	/ENTITY/dsvm/...       the door itself
//	all else               JupyterHub, whose pages are below /ENTITY/hub/

// hubHost is the host of addresses of JupyterHub, for dialLab.
const hubHost = "hub"

// labPrefix is where JupyterLab's paths begin, below the entity; "" = there is no hub.
func (w *web) labPrefix() string {
	f := w.s.file.Load()
	if f.Hub == "" {
		return ""
	}
	return "user/" + f.User + "/"
}

// hostOf is the host of a path: JupyterLab's, or its hub's.
func (w *web) hostOf(path string) string {
	if strings.HasPrefix(path, "/"+w.entity+"/"+w.labPrefix()) {
		return "localhost"
	}
	return hubHost
}

// inLab is a path below the entity as JupyterLab has it. Of a path of the hub's nothing is cut.
func (w *web) inLab(rest string) string { return strings.TrimPrefix(rest, w.labPrefix()) }

// isPage reports whether a path below the entity is a page that the door's script goes into.
func (w *web) isPage(rest string) bool {
	return isLabPage(w.inLab(rest)) || w.labPrefix() != "" && strings.HasPrefix(rest, "hub/")
}

// leadToHub leads a browser that asks for JupyterLab without a hub, as the page for tickets does,
// to where the hub has it, or starts it.
func (w *web) leadToHub(out http.ResponseWriter, r *http.Request, rest string) bool {
	if w.labPrefix() == "" || r.Method != http.MethodGet || !isLabPage(rest) {
		return false
	}
	w.redirect(out, r, "hub/user-redirect/"+rest)
	return true
}

// sendToHub sends a browser that asks for a page of a JupyterLab that is not there to the hub's
// page that starts it.
func (w *web) sendToHub(out http.ResponseWriter, r *http.Request) bool {
	rest, _ := strings.CutPrefix(r.URL.Path, "/"+w.entity+"/")
	if w.labPrefix() == "" || !strings.HasPrefix(rest, w.labPrefix()) || !w.isWanted(r) {
		return false
	}
	w.redirect(out, r, "hub/"+rest)
	return true
}

func (w *web) redirect(out http.ResponseWriter, r *http.Request, rest string) {
	to := url.URL{Path: "/" + w.entity + "/" + rest, RawQuery: r.URL.RawQuery}
	out.Header().Set("Cache-Control", "no-store")
	out.Header().Set("Location", to.String())
	out.WriteHeader(http.StatusFound)
}
