#!/bin/bash
# Makes a plain Ubuntu ready to be the image of nodes: run as root in the machine that
# becomes the image. DRIVER=1 adds NVIDIA's driver, DOCKER=1 Docker.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt_get() { apt-get -yq -o DPkg::Lock::Timeout=600 "$@"; }

apt_get update
apt_get dist-upgrade
# Of the kernel that the machine boots with next, which the upgrade may have brought.
apt_get install --no-install-recommends cifs-utils nfs-common keyutils git git-lfs curl python3 iptables linux-modules-extra-azure

# Tickets for SMB with the node's identity.
. /etc/os-release
curl -fsS --proto =https -o /tmp/microsoft.deb "https://packages.microsoft.com/config/$ID/$VERSION_ID/packages-microsoft-prod.deb"
dpkg -i /tmp/microsoft.deb
rm /tmp/microsoft.deb
apt_get update
apt_get install --no-install-recommends azfilesauth

if [ -n "${DOCKER:-}" ]; then
	apt_get install --no-install-recommends docker.io
fi
if [ -n "${DRIVER:-}" ]; then
	apt_get install --no-install-recommends ubuntu-drivers-common
	ubuntu-drivers install --gpgpu
fi

# What only delays a boot, or takes the lock of apt while a setup needs it.
systemctl mask apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service motd-news.timer fwupd-refresh.timer \
	man-db.timer snapd.seeded.service snapd.service snapd.socket
# cloud-init asks no other cloud than Azure.
echo 'datasource_list: [Azure]' >/etc/cloud/cloud.cfg.d/90-azure.cfg
apt_get autoremove --purge
apt_get clean
rm -rf /var/lib/apt/lists/*
