#!/bin/bash
# Makes an image for nodes and puts it into a gallery; README.md has more. It makes one VM
# in a resource group of its own, which it deletes at the end, however that comes.
set -euo pipefail
cd "$(dirname "$0")"
usage() {
	echo "usage: make.sh -g RESOURCE-GROUP -i GALLERY -n IMAGE -v VERSION [-s SIZE] [-t Standard|TrustedLaunch] [-a AGENT] [-d] [-c]"
	echo "  -a: an agent's program for the image   -d: with NVIDIA's driver   -c: with Docker"
	exit 2
}
size=Standard_D4s_v5 type=Standard agent='' driver='' docker='' group='' gallery='' name='' version=''
while getopts g:i:n:v:s:t:a:dc option; do
	case $option in
	g) group=$OPTARG ;;
	i) gallery=$OPTARG ;;
	n) name=$OPTARG ;;
	v) version=$OPTARG ;;
	s) size=$OPTARG ;;
	t) type=$OPTARG ;;
	a) agent=$(realpath "$OPTARG") ;;
	d) driver=1 ;;
	c) docker=1 ;;
	*) usage ;;
	esac
done
[ -n "$group" ] && [ -n "$gallery" ] && [ -n "$name" ] && [ -n "$version" ] || usage

location=$(az sig show -g "$group" -r "$gallery" --query location -o tsv)
work=dsvmpools-image-$$
az group create -n "$work" -l "$location" --tags dsvmpools-image="$name" -o none
trap 'az group delete -n "$work" --yes --no-wait' EXIT

case $type in
Standard) feature=SecurityType=TrustedLaunchSupported security=(--security-type Standard) ;;
TrustedLaunch) feature=SecurityType=TrustedLaunch security=(--security-type TrustedLaunch --enable-secure-boot false --enable-vtpm true) ;;
*) usage ;;
esac
az sig image-definition show -g "$group" -r "$gallery" -i "$name" -o none 2>/dev/null ||
	az sig image-definition create -g "$group" -r "$gallery" -i "$name" --publisher dsvmpools --offer nodes --sku "$name" \
		--os-type Linux --os-state Generalized --hyper-v-generation V2 --features "$feature IsAcceleratedNetworkSupported=True DiskControllerTypes=SCSI,NVMe" -o none

az vm create -g "$work" -n image -l "$location" --size "$size" --image Canonical:ubuntu-24_04-lts:server:latest \
	--admin-username dsvm --generate-ssh-keys --nsg-rule NONE --public-ip-sku Standard "${security[@]}" -o none
# run SCRIPT: as root in the VM. The agent of the VM says "succeeded" of a script that fails, so it says itself how it ended.
run() {
	local out
	out=$(az vm run-command invoke -g "$work" -n image --command-id RunShellScript --scripts "$1" --query 'value[0].message' -o tsv)
	grep -q '^made: 0$' <<<"$out" || { echo "$out"; exit 1; }
}
run "export DRIVER=$driver DOCKER=$docker
bash -s <<'END_OF_PREPARE'
$(cat prepare.sh)
END_OF_PREPARE
echo \"made: \$?\""
if [ -f setup.sh ]; then # what the deployment's own image has besides
	run "bash -s <<'END_OF_SETUP'
$(cat setup.sh)
END_OF_SETUP
echo \"made: \$?\""
fi
if [ -n "$agent" ]; then
	# A script has no room for a program: it goes through a container that is deleted with the rest.
	account=$(tr -dc a-z0-9 <<<"dsvmimage$RANDOM$RANDOM" | cut -c1-24)
	az storage account create -g "$work" -n "$account" -l "$location" --sku Standard_LRS --allow-blob-public-access false -o none
	key=$(az storage account keys list -g "$work" -n "$account" --query '[0].value' -o tsv)
	export AZURE_STORAGE_ACCOUNT=$account AZURE_STORAGE_KEY=$key
	az storage container create -n agent -o none
	az storage blob upload -c agent -n agent -f "$agent" -o none
	until=$(date -u -d '1 hour' +%Y-%m-%dT%H:%MZ)
	url=$(az storage blob generate-sas -c agent -n agent --permissions r --expiry "$until" --https-only --full-uri -o tsv)
	run "curl -fsS -o /usr/local/bin/dsvm-agent '$url' && echo '$(sha256sum <"$agent" | cut -d' ' -f1)  /usr/local/bin/dsvm-agent' | sha256sum -c && chmod 755 /usr/local/bin/dsvm-agent
echo \"made: \$?\""
fi
# Without its users and keys; a moment later, since it also takes away what answers for this command.
run 'systemd-run --on-active=10 waagent -deprovision+user -force; echo "made: $?"'
sleep 60
az vm deallocate -g "$work" -n image -o none
az vm generalize -g "$work" -n image
id=$(az vm show -g "$work" -n image --query id -o tsv)
az sig image-version create -g "$group" -r "$gallery" -i "$name" -e "$version" --virtual-machine "$id" -o none
az sig image-definition show -g "$group" -r "$gallery" -i "$name" --query id -o tsv
