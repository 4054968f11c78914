package e2e

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"sort"
)

// pictures is where pictures go; `make screenshots` sets it.
var pictures = flag.String("pictures", "", "folder for a picture of each page of ours in each look; those in docs/images are renewed as well")

// picture takes one of what the tab shows, if pictures are wanted, as a small PNG file.
func (t *tab) picture(name string) {
	t.t.Helper()
	if *pictures == "" {
		return
	}
	// A reference differs each time. So that the same page gives the same file, it does not here.
	t.do("evaluate", `for (const code of document.querySelectorAll("footer code")) code.textContent = "ra9wkhn0wm"`)
	path := filepath.Join(*pictures, name+".png")
	t.do("screenshot", with{"path": path, "animations": "disabled"})
	small, err := shrunk(path)
	if err == nil {
		err = os.WriteFile(path, small, 0o644)
	}
	if used := filepath.Join(t.app.lab.root, "docs", "images", name+".png"); err == nil && exists(used) {
		err = os.WriteFile(used, small, 0o644)
	}
	if err != nil {
		t.t.Fatalf("%s: %v", path, err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// shrunk is a PNG file with a palette of its most frequent colours: our pages have few but for the edges of letters.
func shrunk(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	full, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	counts := map[color.RGBA]int{}
	each(full, func(x, y int, c color.RGBA) { counts[c]++ })
	var colours []color.RGBA
	for c := range counts {
		colours = append(colours, c)
	}
	sort.Slice(colours, func(i, j int) bool { // an order without chance, so that the same page gives the same file
		a, b := colours[i], colours[j]
		if counts[a] != counts[b] {
			return counts[a] > counts[b]
		}
		return a.R < b.R || a.R == b.R && (a.G < b.G || a.G == b.G && a.B < b.B)
	})
	palette := color.Palette{}
	for _, c := range colours[:min(len(colours), 32)] {
		palette = append(palette, c)
	}
	small := image.NewPaletted(full.Bounds(), palette)
	nearest := map[color.RGBA]uint8{}
	each(full, func(x, y int, c color.RGBA) {
		index, known := nearest[c]
		if !known {
			index = uint8(palette.Index(c))
			nearest[c] = index
		}
		small.SetColorIndex(x, y, index)
	})
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&out, small)
	return out.Bytes(), err
}

// each calls see for every point of a picture.
func each(picture image.Image, see func(x, y int, c color.RGBA)) {
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			see(x, y, color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA))
		}
	}
}
