// Package page serves the web page: one document for all its addresses, and the modules,
// styles and libraries below /assets/HASH/, where HASH is that of all of them together. They are in the
// binary, each is compressed once, and nothing is built or fetched from elsewhere.
//
// It knows nothing of jobs and pools: the page asks the API below /web/api/, as docs/page.md
// describes. A page may load, call and show nothing but what the header Content-Security-Policy names.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"dsvmpools/shared/wire"
)

// Config says how people may sign in.
type Config struct {
	// SignIn is the issuer that people sign in at; without an issuer, there is none.
	SignIn wire.SignIn
	// Platform says that the platform in front has people sign in.
	Platform bool
	// Keys swaps the key of an address that `dsvm up` has printed; nil = there are none.
	Keys Keys
}

//go:embed files
var files embed.FS

// Folders of addresses.
const (
	assets     = "/assets/"
	vendor     = "vendor/"
	lazy       = "lazy/" // what a view loads when it needs it
	shell      = "index.html"
	scriptType = "text/javascript; charset=utf-8"
)

// views are the first parts of the page's own addresses, beside "/". app.js has the same.
var views = []string{"jobs", "pools", "money", "trouble"}

// Page answers for the page. It is a http.Handler.
type Page struct {
	cfg    Config
	hash   string
	shell  *asset
	assets map[string]*asset // by path below files
	policy string
}

// New reads the files and compresses them.
func New(cfg Config) (*Page, error) {
	p := &Page{cfg: cfg, assets: map[string]*asset{}, policy: policy(cfg.SignIn.Issuer)}
	if err := p.readAssets(); err != nil {
		return nil, err
	}
	text, err := files.ReadFile("files/" + shell)
	if err != nil {
		return nil, err
	}
	signIn, err := json.Marshal(map[string]any{
		"issuer": cfg.SignIn.Issuer, "clientId": cfg.SignIn.ClientID, "scope": cfg.SignIn.Scope,
		"platform": cfg.Platform, "keys": cfg.Keys != nil,
	})
	if err != nil {
		return nil, err
	}
	folder := assets + p.hash
	fill := strings.NewReplacer("ASSETS", folder, "PRELOADS", p.preloads(folder), "SIGN-IN", html.EscapeString(string(signIn)))
	p.shell = newAsset([]byte(fill.Replace(string(text))), "text/html; charset=utf-8")
	return p, nil
}

// readAssets reads all files but the shell, and names them together.
func (p *Page) readAssets() error {
	sum := sha256.New()
	err := fs.WalkDir(files, "files", func(name string, d fs.DirEntry, err error) error {
		short := strings.TrimPrefix(name, "files/")
		if err != nil || d.IsDir() || short == shell || path.Ext(short) == ".txt" || path.Ext(short) == ".json" {
			return err
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		// The libraries are as their makers publish them. A browser finds a module by its address alone.
		if strings.HasPrefix(short, vendor) {
			text = bytes.ReplaceAll(text, []byte(`from"preact"`), []byte(`from"./preact.mjs"`))
		}
		kind := mime.TypeByExtension(path.Ext(short))
		switch path.Ext(short) { // whatever the machine's own table says
		case ".js", ".mjs":
			kind = scriptType
		case ".css":
			kind = "text/css; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		}
		p.assets[short] = newAsset(text, kind)
		sum.Write([]byte(short + "\x00"))
		sum.Write([]byte(p.assets[short].tag))
		return nil
	})
	p.hash = hex.EncodeToString(sum.Sum(nil)[:8])
	return err
}

// preloads has a browser fetch all modules at once, and not one after the other.
func (p *Page) preloads(folder string) string {
	var names []string
	for name, a := range p.assets {
		if a.kind == scriptType && !strings.Contains(name, lazy) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(`<link rel="modulepreload" href="` + folder + "/" + name + `">` + "\n")
	}
	return b.String()
}

// policy is the Content-Security-Policy: the page's own files and the API, and the issuer, from
// which the page gets tokens. Text never becomes a script or markup.
func policy(issuer string) string {
	connect := "'self'"
	if u, err := url.Parse(issuer); err == nil && u.Host != "" {
		connect += " " + u.Scheme + "://" + u.Host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
}

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.URL.Path == loginPath {
		p.login(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "this page is only read; the API is below /api/", http.StatusMethodNotAllowed)
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, assets); ok {
		p.serveAsset(w, r, rest)
		return
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/favicon.ico":
		p.serveAsset(w, r, p.hash+"/icon.svg")
	// Not "//name": a browser takes that for the address of another host, and a sign-in that leads back would lead there.
	case r.URL.Path == "/" || slices.Contains(views, first):
		h.Set("Cache-Control", "no-cache")
		p.shell.serve(w, r)
	default:
		missing(w, "There is no such page; the page is at /, and the API below /api/ with its key.\n")
	}
}

// serveAsset serves a file of this version. One of another version is not here: the page that
// asks for it is an old one.
func (p *Page) serveAsset(w http.ResponseWriter, r *http.Request, rest string) {
	hash, name, _ := strings.Cut(rest, "/")
	a := p.assets[name]
	if hash != p.hash || a == nil {
		missing(w, "There is no such file in this version; load the page again.\n")
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	a.serve(w, r)
}

func missing(w http.ResponseWriter, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte(text)) // the caller is gone if this fails
}
