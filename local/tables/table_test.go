package tables

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func TestTablesAreCreatedListedAndDeleted(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "tables.db"))
	service := connect(t, s)
	ctx := deadline(t)
	for _, name := range []string{"usage", "Pools", "ids"} {
		r, err := service.CreateTable(ctx, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if name != *r.TableName {
			t.Errorf("got name %q, want %q", *r.TableName, name)
		}
	}
	_, err := service.CreateTable(ctx, "POOLS", nil)
	wantError(t, err, 409, "TableAlreadyExists")
	for _, name := range []string{"ab", "1abc", "with-dash", strings.Repeat("x", 64), "tables"} {
		_, err := service.CreateTable(ctx, name, nil)
		wantError(t, err, 400, "InvalidResourceName")
	}
	names := func(o *aztables.ListTablesOptions) (names []string) {
		for pager := service.NewListTablesPager(o); pager.More(); {
			p, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, table := range p.Tables {
				names = append(names, *table.Name)
			}
		}
		return names
	}
	if got, want := names(nil), []string{"ids", "Pools", "usage"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := names(&aztables.ListTablesOptions{Top: ptr(int32(1))}), []string{"ids", "Pools", "usage"}; !slices.Equal(got, want) {
		t.Errorf("one a page: got %v, want %v", got, want)
	}
	if got, want := names(&aztables.ListTablesOptions{Filter: ptr("TableName ge 'Q'")}), []string{"ids", "usage"}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("filtered: got %v, want %v", got, want)
	}
	if _, err := service.DeleteTable(ctx, "pools", nil); err != nil {
		t.Fatal(err)
	}
	_, err = service.DeleteTable(ctx, "pools", nil)
	wantError(t, err, 404, "ResourceNotFound")
	_, err = service.NewClient("pools").GetEntity(ctx, "p", "r", nil)
	wantError(t, err, 404, "TableNotFound")
	_, err = service.NewClient("pools").AddEntity(ctx, row("p", "r"), nil)
	wantError(t, err, 404, "TableNotFound")
	pager := service.NewClient("pools").NewListEntitiesPager(nil)
	_, err = pager.NextPage(ctx)
	wantError(t, err, 404, "TableNotFound")
}

func TestDeletedTableLeavesNothing(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	for i := range 20 {
		if _, err := c.AddEntity(deadline(t), row("p", fmt.Sprint(i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Delete(deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	again := tableOf(t, s, "pools")
	if got := filtered(t, again, ""); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

func TestServicePropertiesAreKept(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "tables.db"))
	service := connect(t, s)
	rule := aztables.CorsRule{
		AllowedOrigins:  ptr("http://example.org"),
		AllowedMethods:  ptr("GET"),
		AllowedHeaders:  ptr("x"),
		ExposedHeaders:  ptr("y"),
		MaxAgeInSeconds: ptr(int32(5)),
	}
	if _, err := service.SetProperties(deadline(t), aztables.ServiceProperties{Cors: []*aztables.CorsRule{&rule}}, nil); err != nil {
		t.Fatal(err)
	}
	metrics := aztables.Metrics{
		Enabled:         ptr(true),
		IncludeAPIs:     ptr(true),
		Version:         ptr("1.0"),
		RetentionPolicy: &aztables.RetentionPolicy{Enabled: ptr(true), Days: ptr(int32(7))},
	}
	if _, err := service.SetProperties(deadline(t), aztables.ServiceProperties{HourMetrics: &metrics}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := service.GetProperties(deadline(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Cors) != 1 || *got.Cors[0].AllowedOrigins != "http://example.org" {
		t.Errorf("the CORS rule that was set first is gone: %+v", got.Cors)
	}
	if got.HourMetrics == nil || !*got.HourMetrics.Enabled || *got.HourMetrics.RetentionPolicy.Days != 7 {
		t.Errorf("got hour metrics %+v, want those that were set", got.HourMetrics)
	}
	if got.MinuteMetrics == nil || *got.MinuteMetrics.Enabled {
		t.Errorf("got minute metrics %+v, want the default", got.MinuteMetrics)
	}
}
