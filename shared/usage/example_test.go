package usage_test

import (
	"fmt"
	"time"

	"dsvmpools/shared/usage"
)

// What an attempt costs: its part of the node, times the hours, times the price per
// hour. The part is the largest of its parts of cpus, GPUs and memory; here it is that
// of the GPUs.
func ExampleNewRow() {
	begin := time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC)
	row := usage.NewRow(usage.Entry{
		Kind:     usage.KindAttempt,
		Pool:     "gpu",
		Job:      "train",
		Team:     "vision",
		CPUs:     4,
		NodeCPUs: 24,
		GPUs:     2,
		NodeGPUs: 4,
		From:     begin,
		To:       begin.Add(90 * time.Minute),
		Price:    "3.20",
		Currency: "EUR",
	})
	fmt.Println(row.Share, "of a node for", row.Seconds)
	fmt.Println("node time", row.NodeSeconds)
	fmt.Println("costs", row.Cost, row.Currency)
	// Output:
	// 0.5 of a node for 1h30m0s
	// node time 45m0s
	// costs 2.40 EUR
}

// A report by pool shows what attempts cost, and what nodes cost beyond that.
func ExampleBuilder() {
	begin := time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC)
	report, err := usage.NewBuilder(usage.Query{By: usage.ByPool, From: begin, To: begin.AddDate(0, 0, 1)})
	if err != nil {
		panic(err)
	}
	for _, e := range []usage.Entry{
		{Kind: usage.KindNode, Pool: "cpu", From: begin, To: begin.Add(2 * time.Hour), Price: "1.00", Currency: "EUR"},
		{Kind: usage.KindAttempt, Pool: "cpu", Job: "train", CPUs: 2, NodeCPUs: 4, From: begin, To: begin.Add(time.Hour), Price: "1.00", Currency: "EUR"},
	} {
		row := usage.NewRow(e)
		report.Add(&row)
	}
	for _, g := range report.Report(begin).Groups {
		fmt.Println(g.Key, "jobs:", g.Jobs, "cost:", g.Cost, "waste:", g.Waste, g.Currency)
	}
	// Output:
	// cpu jobs: 1 cost: 0.50 waste: 1.50 EUR
}
