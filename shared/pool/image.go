package pool

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/document"
)

// Image names what the disk of a node is made of: a short name of images, the four parts
// of a marketplace image, or the resource ID of an image of one's own. The zero Image is
// the one of the deployment.
type Image struct {
	Name      string `json:"name,omitempty"` // a short name, such as UbuntuDSVM; see images
	Publisher string `json:"publisher,omitempty"`
	Offer     string `json:"offer,omitempty"`
	SKU       string `json:"sku,omitempty"`
	Version   string `json:"version,omitempty"`
	ID        string `json:"id,omitempty"`
}

// images are the marketplace images that have a short name.
var images = map[string]Image{
	"UbuntuDSVM": {Publisher: "microsoft-dsvm", Offer: "ubuntu-2204", SKU: "2204-gen2", Version: "latest"},
	"UbuntuHPC":  {Publisher: "microsoft-dsvm", Offer: "ubuntu-hpc", SKU: "2404", Version: "latest"},
	"Ubuntu2404": {Publisher: "Canonical", Offer: "ubuntu-24_04-lts", SKU: "server", Version: "latest"},

	DefaultWindowsImage: {Publisher: "microsoft-dsvm", Offer: "dsvm-win-2022", SKU: "winserver-2022", Version: "latest"},
}

// DefaultImageName is the short name of the image of a deployment that names none: the
// Linux Data Science VM.
const DefaultImageName = "UbuntuDSVM"

// DefaultWindowsImage is the short name of the image of a pool with Windows that names none: the
// Windows Data Science VM.
const DefaultWindowsImage = "WindowsDSVM"

// IsWindows reports whether a marketplace image is one of Windows; of an image of one's own
// nobody here knows.
func (i Image) IsWindows() bool {
	full := i.Full()
	return strings.HasPrefix(strings.ToLower(full.Offer), "dsvm-win") || strings.EqualFold(full.Publisher, "MicrosoftWindowsServer") ||
		strings.EqualFold(full.Publisher, "MicrosoftWindowsDesktop")
}

// imageID is the resource ID of an image, or of an image of a gallery.
var imageID = regexp.MustCompile(`^(?i)/[A-Za-z0-9._/()-]{1,500}$`)

// ParseImage reads an image from one text: a short name, publisher:offer:sku:version, or
// a resource ID, which begins with /. The empty text is the zero Image. field is the field
// or setting that holds the text. Errors are *fault.Error with code Invalid.
func ParseImage(field, text string) (Image, error) {
	i := splitImage(text)
	return i, i.validate(field)
}

func splitImage(text string) Image {
	parts := strings.Split(text, ":")
	switch {
	case strings.HasPrefix(text, "/"):
		return Image{ID: text}
	case len(parts) == 4:
		return Image{Publisher: parts[0], Offer: parts[1], SKU: parts[2], Version: parts[3]}
	}
	return Image{Name: text}
}

// Full is the image with its parts or its ID in the place of a short name; zero = the
// image is that of the deployment, or its short name is unknown.
func (i Image) Full() Image {
	if i.Name != "" {
		return images[i.Name]
	}
	return i
}

// String is the one text that ParseImage reads.
func (i Image) String() string {
	switch {
	case i.Name != "":
		return i.Name
	case i.ID != "":
		return i.ID
	case i == Image{}:
		return ""
	}
	return strings.Join([]string{i.Publisher, i.Offer, i.SKU, i.Version}, ":")
}

// readImage reads the field `image`, a text or an object; zero when it is not there.
func readImage(r *document.Reader) Image {
	const example = "UbuntuDSVM"
	if r.IsText("image") {
		return splitImage(r.String("image", example))
	}
	sub := r.Sub("image", `"`+example+`"`, "name", "publisher", "offer", "sku", "version", "id")
	if sub == nil {
		return Image{}
	}
	return Image{
		Name:      sub.String("name", example),
		Publisher: sub.String("publisher", "microsoft-dsvm"),
		Offer:     sub.String("offer", "ubuntu-2204"),
		SKU:       sub.String("sku", "2204-gen2"),
		Version:   sub.String("version", "latest"),
		ID:        sub.String("id", "/subscriptions/..."),
	}
}

// Validate checks the image of a document.
func (i Image) Validate() error { return i.validate("image") }

func (i Image) validate(field string) error {
	all := i.Publisher != "" && i.Offer != "" && i.SKU != "" && i.Version != ""
	some := i.Publisher+i.Offer+i.SKU+i.Version != ""
	names := slices.Sorted(maps.Keys(images))
	switch _, known := images[i.Name]; {
	case i.Name != "" && (i.ID != "" || some), i.ID != "" && some, some && !all:
		return invalid(field, "`%s` needs publisher, offer, sku and version, or `id` alone, or a short name such as %s alone",
			field, DefaultImageName)
	case i.Name != "" && !known:
		return invalid(field, "`%s` is %q; write %s, the four parts as publisher:offer:sku:version, or the resource ID of an image",
			field, document.Clip(i.Name), strings.Join(names, ", "))
	case i.ID != "" && !imageID.MatchString(i.ID):
		return invalid(field, "`%s` has the id %q; write the whole resource ID of an image, which begins with /subscriptions/",
			field, document.Clip(i.ID))
	}
	return nil
}
