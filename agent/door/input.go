package door

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What counts as input of a person at a browser. A page that is only open must be none, however
// much it sends, and a person who works must be some, whatever they do it with:
//
//   - the door's script in JupyterLab's pages says when a key, a button, a wheel or a drop comes
//     from a person. That is the best that can be known, and needs no knowledge of JupyterLab;
//   - a cell that is run, an answer to a kernel's question and a key in a terminal are acts of a
//     person, script or not;
//   - what JupyterLab is known to send by itself is none;
//   - all else is input, unless a script watches the page that it comes from: a request that
//     nobody knows keeps a session that no script watches, and not one where a script says that
//     nobody is there.

// watchedFor is how long a page's script is believed to watch after it has spoken: in a tab that
// is hidden, browsers wake it once a minute.
const watchedFor = 3 * time.Minute

// labPages begin the paths of JupyterLab's and Notebook's own pages, below the entity.
var labPages = []string{"lab", "doc", "tree", "notebooks", "consoles", "edit", "terminals"}

// isLabPage reports whether a path below the entity is one of JupyterLab's pages.
func isLabPage(rest string) bool {
	first, _, _ := strings.Cut(rest, "/")
	return slices.Contains(labPages, first)
}

// byItself is what JupyterLab, and what comes with it, sends without a person: as seen of
// JupyterLab 4.6 in a tab left alone and in one that was loaded again, and as its source says.
var byItself = []struct {
	method string // "" = any
	path   string // below the entity; with / at its end, all below it
}{
	{"PUT", "lab/api/workspaces/"}, // where windows stand
	{"PUT", "lab/api/settings/"},   // what an extension writes down
	{"PUT", "api/contents/"},       // saved every two minutes after a kernel's output
	{"POST", "api/sessions"},       // a notebook that is opened again
	{"PATCH", "api/sessions/"},     //
	{"POST", "api/kernels"},        //
	{"POST", "api/terminals"},      //
	{"POST", "api/events"},         // what pages tell each other
	{"POST", "api/security/"},      // reports of the browser
	{"", "lsp/"},                   // language servers
	{"", "api/metrics/"},           // of jupyter-resource-usage
	{"POST", "hub/security/"},      // reports of the browser, to a hub
}

// isInput reports whether a request means that somebody does something. rest is its path below
// the entity.
func (w *web) isInput(r *http.Request, rest string) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	rest = w.inLab(rest)
	for _, known := range byItself {
		isAt := rest == known.path || strings.HasSuffix(known.path, "/") && strings.HasPrefix(rest, known.path)
		if isAt && (known.method == "" || known.method == r.Method) {
			return false
		}
	}
	return !w.s.isWatched() || !w.isFromLab(r)
}

// isFromLab reports whether one of JupyterLab's pages has sent a request.
func (w *web) isFromLab(r *http.Request) bool {
	from, err := url.Parse(r.Referer())
	if err != nil {
		return false
	}
	rest, isHere := strings.CutPrefix(from.Path, "/"+w.entity+"/")
	return isHere && w.isPage(rest)
}

// messageType finds the type of a message for a kernel, in each of the forms in which Jupyter
// sends one.
var messageType = regexp.MustCompile(`"msg_type"\s*:\s*"([a-z_]+)"`)

// terminalAnswer is what a terminal answers by itself when a program asks what it is, where its
// cursor stands or which colours it has, or tells when its window is looked at.
var terminalAnswer = regexp.MustCompile(`^\["stdin",\s*"(?:\\u001b(?:\[[IO]|\[[?>=]?[0-9;]*[cnR]|\[\?[0-9;]*\$y|\][0-9]+;[^"]*|P[^"]*))+"`)

// isTyped reports whether a message of a browser means that somebody does something.
func (w *web) isTyped(path string, first []byte) bool {
	switch {
	case strings.HasPrefix(path, "/api/kernels/"):
		kind := messageType.FindSubmatch(first)
		if kind == nil {
			return false
		}
		switch string(kind[1]) {
		case "execute_request", "input_reply":
			return true
		case "kernel_info_request", "comm_info_request", "history_request", "debug_request", "usage_request":
			return false // a page that is loaded or connects again
		}
		return !w.s.isWatched() // also a widget that moves by itself
	case strings.HasPrefix(path, "/terminals/"):
		text := strings.TrimLeft(string(first), " \n")
		return strings.HasPrefix(text, `["stdin"`) && !terminalAnswer.MatchString(text)
	}
	return false
}
