// Package main is a launcher for the Consul agent.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hashicorp/consul/command"
	ui "github.com/hashicorp/consul/command/cli"
	_ "github.com/hashicorp/consul/service_os"
	"github.com/mitchellh/cli"
)

func main() {
	log.SetOutput(io.Discard)
	terminal := &ui.BasicUI{BasicUi: cli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}}
	c := &cli.CLI{Name: "consul", Args: os.Args[1:], Commands: command.RegisteredCommands(terminal)}
	c.HelpWriter, c.ErrorWriter = os.Stdout, os.Stderr
	if c.IsVersion() {
		c.Args = []string{"version"}
	}
	code, err := c.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}
