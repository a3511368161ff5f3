package tables

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// benchRow is the size of a job in the ledger.
func benchRow(partition, rowKey string) []byte {
	return row(
		partition,
		rowKey,
		"State",
		"running",
		"Team",
		"vision",
		"Cpus",
		4,
		"SubmittedAt",
		"2026-01-02T03:04:05Z",
		"SubmittedAt@odata.type",
		"Edm.DateTime",
		"Order",
		"12345678901234",
		"Order@odata.type",
		"Edm.Int64",
		"Spec",
		strings.Repeat("x", 800),
	)
}

func perSecond(b *testing.B, n int) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkGet(b *testing.B) {
	_, c := newTable(b)
	ctx := deadline(b)
	for i := range 100 {
		if _, err := c.AddEntity(ctx, benchRow("p", fmt.Sprint(i)), nil); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Int64
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.GetEntity(ctx, "p", fmt.Sprint(n.Add(1)%100), nil); err != nil {
				b.Error(err)
			}
		}
	})
	perSecond(b, b.N)
}

func BenchmarkInsertBy8(b *testing.B) {
	_, c := newTable(b)
	ctx := deadline(b)
	var n atomic.Int64
	b.SetParallelism(4) // times two processors
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.AddEntity(ctx, benchRow("p", fmt.Sprint(n.Add(1))), nil); err != nil {
				b.Error(err)
			}
		}
	})
	perSecond(b, b.N)
}

func BenchmarkTransactionOf100(b *testing.B) {
	b.Run("1KiB", func(b *testing.B) { transactions(b, benchRow) })
	b.Run("small", func(b *testing.B) {
		transactions(b, func(p, r string) []byte { return row(p, r, "State", "running", "Cpus", 4) })
	})
}

func transactions(b *testing.B, entity func(partition, rowKey string) []byte) {
	_, c := newTable(b)
	ctx := deadline(b)
	var n atomic.Int64
	b.SetParallelism(2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			partition := fmt.Sprint("p", n.Add(1))
			a := make([]aztables.TransactionAction, maxOperations)
			for i := range a {
				a[i] = aztables.TransactionAction{
					ActionType: aztables.TransactionTypeAdd,
					Entity:     entity(partition, fmt.Sprintf("%03d", i)),
				}
			}
			if _, err := c.SubmitTransaction(ctx, a, nil); err != nil {
				b.Error(err)
			}
		}
	})
	perSecond(b, b.N*maxOperations)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
}

func BenchmarkQueryOf100(b *testing.B) {
	_, c := newTable(b)
	ctx := deadline(b)
	fill(b, c, "p", 5000)
	filter := "PartitionKey eq 'p' and RowKey ge '02000' and RowKey lt '02100'"
	b.ResetTimer()
	for b.Loop() {
		p, err := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter}).NextPage(ctx)
		if err != nil || len(p.Entities) != 100 {
			b.Fatal(len(p.Entities), err)
		}
	}
	perSecond(b, b.N*100)
}

// BenchmarkInsertWithoutClient is what the storage alone takes.
func BenchmarkInsertWithoutClient(b *testing.B) {
	s, _ := newTable(b)
	var n atomic.Int64
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := make([]write, 1)
			bad := s.readWrite(&request{method: http.MethodPost, path: "pools", body: string(benchRow("p", fmt.Sprint(n.Add(1))))}, &w[0], new(fieldsOf))
			if bad == nil {
				_, bad, _ = s.apply(w)
			}
			if bad != nil {
				b.Error(bad)
			}
		}
	})
	perSecond(b, b.N)
}

// BenchmarkTransactionWithoutClient leaves out what the client costs, which is
// most of a transaction: it hands requests to the server directly.
func BenchmarkTransactionWithoutClient(b *testing.B) {
	s, _ := newTable(b)
	var n atomic.Int64
	b.SetParallelism(2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		body := batchBody(fmt.Sprint("p", n.Add(1)))
		for pb.Next() {
			w := httptest.NewRecorder()
			s.transaction(w, &request{ctx: b.Context(), header: header{contentType: "multipart/mixed; boundary=b"}, body: body})
			if w.Code != 202 || strings.Contains(w.Body.String(), "odata.error") {
				b.Error(w.Code, w.Body)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
}

// BenchmarkReadTransaction is what reading and checking a transaction takes, without the
// storage.
func BenchmarkReadTransaction(b *testing.B) {
	s, _ := newTable(b)
	body := batchBody("p")
	b.ReportAllocs()
	for b.Loop() {
		r := request{ctx: b.Context(), header: header{contentType: "multipart/mixed; boundary=b"}, body: body}
		operations, _, bad := s.parseBatch(&r)
		if bad != nil {
			b.Fatal(bad)
		}
		writes := make([]write, len(operations))
		var scratch fieldsOf
		for i := range operations {
			if bad := s.readWrite(&operations[i], &writes[i], &scratch); bad != nil {
				b.Fatal(bad)
			}
		}
	}
}

// BenchmarkPage is what a page of 1,000 entities takes, without the client; the filter
// looks at a property of each.
func BenchmarkPage(b *testing.B) {
	s, c := newTable(b)
	fill(b, c, "p", 5000)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		r := request{ctx: b.Context(), query: url.Values{"$filter": {"PartitionKey eq 'p' and N ge 3000"}}}
		if rep, bad := s.query(&r, "pools"); bad != nil || len(rep.body) < 50_000 {
			b.Fatal(len(rep.body), bad)
		}
	}
}

// batchBody replaces 100 rows of a partition, written as aztables writes it.
func batchBody(partition string) string {
	var body strings.Builder
	body.WriteString("--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n")
	for i := range maxOperations {
		r := fmt.Sprintf("%03d", i)
		body.WriteString("--c\r\nContent-Transfer-Encoding: binary\r\nContent-Type: application/http\r\n\r\n")
		fmt.Fprintf(&body, "PUT http://127.0.0.1/%s/pools%%28PartitionKey='%s',RowKey='%s'%%29 HTTP/1.1\r\n", testAccount, partition, r)
		body.WriteString(
			"Accept: application/json\r\nContent-Length: 1000\r\nContent-Type: application/json\r\nDataserviceversion: " +
				"3.0\r\nX-Ms-Version: 2019-02-02\r\n\r\n",
		)
		body.Write(benchRow(partition, r))
		body.WriteString("\r\n")
	}
	body.WriteString("--c--\r\n--b--\r\n")
	return body.String()
}
