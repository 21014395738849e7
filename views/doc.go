// Package views holds the dashboard's pages and the components they are made of, as templ templates.
//
// A page takes one props struct of plain display values: words, addresses and percentages that are ready to print.
// Templates decide nothing but where a value stands; app/web makes the values. Everything works under a content
// security policy without inline scripts or styles, so widths and shapes are attributes of SVG elements.
//
// A Part is an element that a page's stream replaces in place by its id.
package views

//go:generate go tool templ generate
