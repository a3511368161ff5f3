package main

import "context"

func runDifferences(ctx context.Context) (bool, error) { return false, nil }
func runBench(ctx context.Context) (bool, error)       { return false, nil }
