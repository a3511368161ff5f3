package main

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// azure answers what a node asks before its agent runs.
type azure struct {
	state string
	wrong atomic.Bool // the blob is another one than was promised
}

// serveMetadata listens as the metadata endpoint of a VM.
func (a *azure) serveMetadata(address string) error {
	m := http.NewServeMux()
	m.HandleFunc("GET /metadata/instance/compute", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"vmId": vmid, "name": "dsvm-cpu-d2s-v5_0", "vmSize": "Standard_D2s_v5", "vmScaleSetName": "dsvm-cpu-d2s-v5",
			"resourceId": "/subscriptions/0/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/dsvm-cpu-d2s-v5/virtualMachines/0",
			"tagsList":   []map[string]string{{"name": "dsvmpools-pool", "value": poolName}},
		})
	})
	m.HandleFunc("GET /metadata/instance/compute/userData", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(base64.StdEncoding.EncodeToString(document.JSON())))
	})
	m.HandleFunc("GET /metadata/scheduledevents", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"DocumentIncarnation": 1, "Events": []any{}})
	})
	m.HandleFunc("GET /metadata/identity/oauth2/token", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("client_id") != clientID || r.URL.Query().Get("resource") == "" {
			http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
			return
		}
		answer(w, map[string]string{"access_token": token + " " + r.URL.Query().Get("resource"), "expires_in": "86399", "token_type": "Bearer"})
	})
	return listen(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" {
			http.Error(w, `{"error":"Bad request. Required metadata header not specified"}`, http.StatusBadRequest)
			return
		}
		m.ServeHTTP(w, r)
	}), "", "")
}

// serveHTTPS listens as the storage account with the agent, and as the vault.
func (a *azure) serveHTTPS(address string) error {
	m := http.NewServeMux()
	m.HandleFunc("GET "+blobHost+"/agent/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token+" https://storage.azure.com/" || r.Header.Get("x-ms-version") == "" {
			http.Error(w, "AuthenticationFailed", http.StatusForbidden)
			return
		}
		if a.wrong.Load() {
			_, _ = w.Write([]byte("#!/bin/sh\necho not the agent\n"))
			return
		}
		http.ServeFile(w, r, filepath.Join(a.state, "agent"))
	})
	for name, key := range map[string]string{"share-key": shareKey, "share-key-acmedata": dataKey} {
		m.HandleFunc("GET "+vaultHost+"/secrets/"+name, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+token+" https://vault.azure.net" || r.URL.Query().Get("api-version") == "" {
				http.Error(w, `{"error":{"code":"Unauthorized"}}`, http.StatusUnauthorized)
				return
			}
			answer(w, map[string]string{"value": key, "id": "https://" + vaultHost + r.URL.Path})
		})
	}
	return listen(address, m, filepath.Join(a.state, "certificate.pem"), filepath.Join(a.state, "key.pem"))
}

// serveWire listens as the host's agent does, which a job must not reach.
func serveWire(address string) error {
	return listen(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("goal state")) }), "", "")
}

// listen serves until the program ends, with TLS if there is a certificate.
func listen(address string, h http.Handler, certificate, key string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		server := &http.Server{Handler: logged(h)}
		if certificate == "" {
			err = server.Serve(l)
		} else {
			err = server.ServeTLS(l, certificate, key)
		}
		panic(err) // it ends with the program alone
	}()
	return nil
}

// logged writes each request to the standard error, without its query.
func logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = os.Stderr.WriteString("    " + strings.TrimSuffix(r.Method+" "+r.Host+r.URL.Path, "/") + "\n")
		h.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
