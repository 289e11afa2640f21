// Command gitlab-runner is GitLab's runner with the Kubernetes executor: its own source as it is released, less what
// needs modules that cannot be downloaded everywhere. In the folders beside this file, named like them, is what stands
// in for those: it does nothing, and no job of the tests asks for it.
package main

import (
	"os"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/commands/helpers"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/kubernetes"
	"gitlab.com/gitlab-org/gitlab-runner/log"
	"gitlab.com/gitlab-org/gitlab-runner/network"
	_ "gitlab.com/gitlab-org/gitlab-runner/shells"
)

func main() {
	providers := executors.NewProviderRegistry(map[string]common.ExecutorProvider{
		common.ExecutorKubernetes: kubernetes.NewProvider(),
	})
	client := network.NewGitLabClient(
		network.WithAPIRequestsCollector(network.NewAPIRequestsCollector()),
		network.WithExecutorProviderFunc(providers.GetByName),
	)
	app := cli.NewApp()
	app.Commands = []cli.Command{
		commands.NewRunSingleCommand(client, providers),
		helpers.NewReadLogsCommand(), // the helper's part: it runs beside each job
	}
	log.ConfigureLogging(app)
	if err := app.Run(os.Args); err != nil {
		logrus.Fatal(err)
	}
}
