package cli

import (
	"cmp"
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/wire"
)

func priceCommand(p *Program) *cobra.Command {
	c := noun("price", "Show what nodes cost, and set or refresh their prices", priceList(p), priceRefresh(p), priceSet(p), priceUnset(p))
	c.Long = `Show what nodes cost, and set or refresh their prices. Prices are those of Azure's
price list, which the instance asks once a day and when a pool names a new size; one
that is set by hand comes before it. Ledger, pools and nodes use them.`
	c.Example = `  dsvm price list
  dsvm price refresh
  dsvm price set Standard_D4s_v5 0.157
  dsvm price unset Standard_D4s_v5`
	return c
}

func priceList(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the prices per hour", Args: cobra.NoArgs,
		Long: `List the prices per hour: of what the pools use first, then of all else that was
asked for or set. SOURCE is retail (Azure's price list), manual (set by hand), builtin
(of this version, for East US, until the price list was asked) or unknown. An unknown
price is never taken for zero.`,
		Example: "  dsvm price list\n  dsvm price list -o json",
		RunE: showList(p, "asking for the prices", (*session).Prices, "no prices: no pool has named a size yet",
			func(all []wire.Price) *table {
				t := newTable("WHAT SIZE ?OS ?SPOT <PRICE/H CURRENCY SOURCE ?2SINCE ?1ASKED ?PROBLEM")
				for _, one := range all {
					spot := ""
					if one.Spot {
						spot = "spot"
					}
					t.add(one.What, one.SKU, one.OS, spot, one.PerHour, one.Currency, one.Source, p.age(one.From), p.age(one.AskedAt), one.Problem)
				}
				return t
			}),
	}
}

func priceRefresh(p *Program) *cobra.Command {
	return &cobra.Command{
		Use: "refresh", Short: "Ask Azure's price list now", Args: cobra.NoArgs,
		Long: `Ask Azure's price list for all that the pools use, as the instance does once a day.
What has no price there keeps the last one that was known.`,
		Example: "  dsvm price refresh",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := ask(c.Context(), p, "asking for the prices", (func(ctx context.Context, s *session) (wire.PricesRefreshed, error) {
				return s.RefreshPrices(ctx)
			}))
			if err != nil {
				return err
			}
			for _, problem := range r.Problems {
				p.Say("%s", problem)
			}
			if p.output == outputJSON {
				return p.json(r)
			}
			return p.facts([][2]string{{"asked", count(r.Asked, "price")}, {"changed", count(r.Changed, "price")}})
		},
	}
}

func priceSet(p *Program) *cobra.Command {
	var s wire.SetPrice
	c := &cobra.Command{
		Use: "set SIZE PRICE", Short: "Set a price by hand", Args: sizeAndPrice,
		Long: `Set a price per hour by hand, from now on: of a size as regular and with Linux unless
the flags say otherwise, of a tier of disks such as E10, of a public address (address)
or a load balancer (balancer). It is in the currency of the ledger, and the setting
DSVM_PRICE_FACTOR does not change it. It counts until dsvm price unset.`,
		Example: "  dsvm price set Standard_D4s_v5 0.157\n  dsvm price set Standard_D4s_v5 0.04 --spot\n  dsvm price set address 0.004",
		RunE: func(c *cobra.Command, args []string) error {
			s.SKU, s.PerHour = args[0], args[1]
			return p.setPrice(c.Context(), s)
		},
	}
	priceFlags(c, &s)
	return c
}

func priceUnset(p *Program) *cobra.Command {
	var s wire.SetPrice
	c := &cobra.Command{
		Use: "unset SIZE", Short: "Take back a price that was set by hand", Args: exactly("a SIZE"),
		Long: `Take back a price that was set by hand: from now on that of Azure's price list
counts again. What was paid meanwhile stays as it is in the ledger.`,
		Example: "  dsvm price unset Standard_D4s_v5\n  dsvm price unset Standard_D4s_v5 --spot",
		RunE: func(c *cobra.Command, args []string) error {
			s.SKU = args[0]
			return p.setPrice(c.Context(), s)
		},
	}
	priceFlags(c, &s)
	return c
}

// sizeAndPrice is the rule of the arguments of set.
func sizeAndPrice(c *cobra.Command, args []string) error {
	if len(args) != 2 {
		return WrongUse("`%s` takes a SIZE and its PRICE per hour: `dsvm price set Standard_D4s_v5 0.157`", c.CommandPath())
	}
	return nil
}

// priceFlags say which price of a size is meant.
func priceFlags(c *cobra.Command, s *wire.SetPrice) {
	c.Flags().BoolVar(&s.Spot, "spot", false, "the price as Spot")
	c.Flags().StringVar(&s.OS, "os", "", "the price with linux or windows; linux when not given")
	complete(c, "os", cobra.FixedCompletions([]string{"linux", "windows"}, cobra.ShellCompDirectiveNoFileComp))
}

func (p *Program) setPrice(ctx context.Context, set wire.SetPrice) error {
	one, err := ask(ctx, p, "setting the price of "+set.SKU, func(ctx context.Context, s *session) (wire.Price, error) {
		return s.SetPrice(ctx, set)
	})
	if err != nil {
		return err
	}
	if p.output == outputJSON {
		return p.json(one)
	}
	return p.facts([][2]string{{"price", strings.TrimSpace(one.What + " " + one.SKU)}, {"per hour", one.PerHour + " " + one.Currency},
		{"source", cmp.Or(one.Source, "unknown")}})
}
