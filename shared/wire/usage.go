package wire

import "dsvmpools/shared/usage"

// UsageGroup is one line of a usage report. It stands in JSON with its key
// under the name of what the report is grouped by.
type UsageGroup = usage.Group

// unknownPrice stands where no price is known.
const unknownPrice = usage.UnknownPrice
